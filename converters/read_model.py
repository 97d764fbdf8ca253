"""The front door: whatever holds a network, as the one graph and as a float ONNX file that can be run beside it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from edgekit.converters.fix_shapes import Shapes, fix_shapes
from edgekit.converters.fold_branches import Constants, bind_inputs, fold_branches
from edgekit.converters.full_disk import name_full_disk
from edgekit.converters.own_codes import has_codes, take_codes
from edgekit.converters.own_operators import write_pairs
from edgekit.converters.own_products import DynamicLayers, write_products
from edgekit.converters.own_recurrent import RecurrentCodes, write_recurrent
from edgekit.converters.quantization import ActivationQuantization, Quantization
from edgekit.converters.read_onnx import infer_shapes, read_onnx, set_source_digest
from edgekit.converters.read_tflite import read_tflite
from edgekit.converters.read_torch import export_module, is_module
from edgekit.converters.select_branches import CONTROL
from edgekit.converters.spell_codes import spell_codes
from edgekit.targets.errors import EdgekitError, ModelError

ONNX, TFLITE, PYTORCH = "ONNX", "TFLite", "PyTorch"
SUFFIXES = (".onnx", ".tflite")
_MAX_PROTOBUF_BYTES = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Source:
    """A network that was read.

    Attributes:
        name: What reports call it.
        kind: What it is: "ONNX", "TFLite", "PyTorch".
        path: The file that was given; what was exported where it was a module.
        reference: An ONNX file of the float network, for ONNX Runtime: ``path`` itself where that is one.
        graph: The float network in canonical form.
        records: What the file says of its quantized values, by their names in ``graph``; empty for a float network.
        notes: What the user should know of the reading.
        dynamic: Names of the products whose rows get codes when the network runs.
    """

    name: str
    kind: str
    path: Path
    reference: Path
    graph: ir.Model
    records: Mapping[str, Quantization | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    dynamic: frozenset[str] = frozenset()
    # Holds ``reference`` where it had to be written, as long as this object lives.
    _folder: tempfile.TemporaryDirectory[str] | None = None


def read_model(
    model: Any,
    *,
    example_inputs: Any = None,
    constants: Constants | None = None,
    shapes: Shapes | None = None,
) -> Source:
    """Reads a network.

    Args:
        model: An ``.onnx`` or ``.tflite`` file, or a torch.nn.Module.
        example_inputs: What the module's ``forward`` takes; see `export_module`.
        constants: Inputs of an ``.onnx`` file that are always the same, by name: they are no inputs any more.
        shapes: Of inputs, by name; a branch that depends on them is taken at once.

    Raises:
        ModelError: The file cannot be read, or holds what cannot be expressed; names the node.
        EdgekitError: It is nothing of which a network can be read.
    """
    if is_module(model) and constants:
        raise EdgekitError("constants goes with an .onnx file: give a module that knows its own")
    if is_module(model):
        return _read_module(model, example_inputs)
    if not isinstance(model, (str, os.PathLike)):
        raise EdgekitError(
            f"model must be a torch.nn.Module or the path of an .onnx or .tflite file, not {type(model).__name__}"
        )
    if example_inputs is not None:
        raise EdgekitError("example_inputs goes with a torch.nn.Module: a file says what it takes")
    path = Path(model)
    if path.suffix.lower() == ".tflite" and constants:
        raise ModelError(f"{path}: inputs are bound to constants in .onnx files alone")
    if path.suffix.lower() == ".tflite":
        return _read_tflite(path)
    return _read_onnx(path, constants or {}, shapes or {})


def _read_folded(
    path: Path,
    constants: Constants,
    shapes: Shapes,
    rewrite: Callable[[ir.Model], None],
) -> tuple[ir.Model, tuple[str, ...]]:
    """Reads an ``.onnx`` file and takes the branches out that can be.

    Args:
        path: The file.
        constants: As `read_model`.
        shapes: As `read_model`.
        rewrite: Changes the graph before its opset is converted.

    Returns:
        The graph, and a note of each branch of which both sides are computed.

    Raises:
        ModelError: The file cannot be read, or a constant or shape does not fit.
    """
    notes: list[str] = []

    def prepare(model: ir.Model) -> None:
        if constants:
            bind_inputs(model, constants)
        if any(node.op_type in CONTROL for node in model.graph):
            fix_shapes(model, shapes)
            notes.extend(fold_branches(model))
        rewrite(model)

    graph = read_onnx(path, prepare=prepare)
    if any(node.op_type in CONTROL for node in graph.graph):
        # Of operators that became those by which ONNX defines them.
        notes.extend(fold_branches(graph))
    return graph, tuple(notes)


def _read_onnx(path: Path, constants: Constants, shapes: Shapes) -> Source:
    layers = DynamicLayers()
    recurrent = RecurrentCodes()
    rewritten = bool(constants)

    def rewrite(model: ir.Model) -> None:
        nonlocal layers, recurrent, rewritten
        try:
            recurrent = write_recurrent(model)
            rewritten |= write_pairs(model) or recurrent.rewritten
            layers = write_products(model)
            rewritten |= spell_codes(model)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
        rewritten |= layers.rewritten

    graph, notes = _read_folded(path, constants, shapes, rewrite)
    if not rewritten and not has_codes(graph):
        return Source(path.name, ONNX, path, path, graph, notes=notes)
    try:
        records = {**take_codes(graph), **recurrent.records}
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    common.RemoveUnusedNodesPass()(graph)
    infer_shapes(graph)
    if layers.convolutions and not any(map(_is_activation, records.values())):
        # Nothing is lost but what the weights lose when they are rounded again.
        records, notes = {}, (*notes, _describe_convolutions(layers))
    folder, reference = _keep(ir.to_proto(graph))
    dynamic = frozenset(layers.products)
    return Source(path.name, ONNX, path, reference, graph, records, notes, dynamic, folder)


def _is_activation(record: Quantization | None) -> bool:
    return isinstance(record, ActivationQuantization)


def _describe_convolutions(layers: DynamicLayers) -> str:
    return (
        f"{len(layers.convolutions)} convolutions of the model get codes of their inputs when they run, which no form "
        "can: ranges are calibrated, and the weights that its codes stand for are rounded for each channel"
    )


def _read_tflite(path: Path) -> Source:
    network = read_tflite(path)
    folder, reference = _keep(network.model)
    graph = read_onnx(reference)
    with path.open("rb") as stream:
        set_source_digest(graph, hashlib.file_digest(stream, "sha256").hexdigest())
    return Source(
        path.name,
        TFLITE,
        path,
        reference,
        graph,
        network.records,
        network.notes,
        _folder=folder,
    )


def _read_module(module: Any, example_inputs: Any) -> Source:
    proto, notes = export_module(module, example_inputs)
    folder, reference = _keep(proto)
    name = type(module).__name__
    return Source(
        name, PYTORCH, reference, reference, read_onnx(reference), notes=notes, _folder=folder
    )


def _keep(proto: onnx.ModelProto) -> tuple[tempfile.TemporaryDirectory[str], Path]:
    """Writes ``proto`` to a folder of its own, which goes with the object that is returned."""
    folder = tempfile.TemporaryDirectory(prefix="edgekit-")
    path = Path(folder.name) / "float.onnx"
    with name_full_disk(
        folder.name, "the float network is kept there; free some space, or set TMPDIR"
    ):
        if proto.ByteSize() > _MAX_PROTOBUF_BYTES:
            onnx.save_model(proto, path, save_as_external_data=True, location="float.data")
        else:
            path.write_bytes(proto.SerializeToString(deterministic=True))
    return folder, path
