"""Reads an ONNX file into the one graph that every pass and writer works on.

Whatever opset (6 and newer) and whatever habits the exporter had, the graph that comes out is canonical:
opset ``CANONICAL_OPSET``, no local functions, weights as initializers and not as Constant nodes or graph
inputs, shapes inferred. Large weights stay mapped from their files.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx_ir.passes import common

from edgekit.converters.expand_functions import expand_functions
from edgekit.targets.errors import ModelError

logger = logging.getLogger(__name__)

OLDEST_OPSET = 6
CANONICAL_OPSET = 21
# Before it, what a binary operator broadcasts was said by attributes, or went without saying.
_BROADCASTING_OPSET = 7
_CANONICAL_IR_VERSION = 10
_DIGEST_KEY = "edgekit.source_digest"
# Tensors above this many bytes do not travel through ONNX's C++ converters; the smaller ones do, since shapes,
# pads and axes are read there.
_SKELETON_BYTES = 1024
_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def read_onnx(
    path: str | os.PathLike[str], *, prepare: Callable[[ir.Model], None] | None = None
) -> ir.Model:
    """Reads and checks the model at ``path``.

    Args:
        path: An ``.onnx`` file. External data is looked for beside it, and only there.
        prepare: Changes the graph, in place, before it is brought to the canonical opset: ONNX's converter leaves
            subgraphs as they are.

    Returns:
        The model in canonical form. Symbolic dimensions stay symbolic: see ``bind_batch``.

    Raises:
        ModelError: The file is missing, is not ONNX, is damaged, is older than opset 6, holds an operator
            that cannot be brought to the canonical opset, points at data outside its folder, or has weights
            that are not finite (a single number may be infinite: a bound or what a mask fills with).
    """
    path = Path(path)
    data = _read_file(path)
    proto = _parse(data, path)
    files = _check_external_data(proto, path)
    digest = _digest(data, files)
    del data

    opset = _opset(proto, path)
    try:
        model = ir.from_proto(proto)
        ir.external_data.set_base_dir(model.graph, path.parent)
        name_nodes(model)
        for graph_pass in (
            common.InlinePass(),
            common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            common.LiftSubgraphInitializersToMainGraphPass(),
            common.RemoveInitializersFromInputsPass(),
            common.TopologicalSortPass(),
            common.NameFixPass(),
        ):
            model = graph_pass(model).model
    except (ValueError, TypeError, KeyError, RuntimeError, ir.passes.InvariantError) as error:
        raise ModelError(f"{path}: the graph is not valid ONNX: {_first_line(error)}") from error
    _check_weights(model, path)
    # Before IR version 4 each initializer had to be an input, which they are no longer.
    model.ir_version = max(model.ir_version, _CANONICAL_IR_VERSION)
    _open_dimensions(model)
    infer_shapes(model)
    if prepare is not None:
        prepare(model)
    model = _convert_opset(model, opset, path)
    model.ir_version = _CANONICAL_IR_VERSION
    model.meta[_DIGEST_KEY] = digest
    infer_shapes(model)
    return model


def read_as_written(path: str | os.PathLike[str]) -> ir.Model:
    """Reads the model at ``path`` and leaves its opset, operators and names as they are.

    Raises:
        ModelError: The file is missing, is not ONNX, is damaged, or points at data outside its folder.
    """
    path = Path(path)
    proto = _parse(_read_file(path), path)
    _check_external_data(proto, path)
    try:
        model = ir.from_proto(proto)
        ir.external_data.set_base_dir(model.graph, path.parent)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ModelError(f"{path}: the graph is not valid ONNX: {_first_line(error)}") from error
    return model


def get_source_digest(model: ir.Model) -> str:
    """Returns the SHA-256 of the file that ``model`` was read from, in hexadecimal.

    With external data it is the SHA-256 over the digests (as bytes) of the model file and of each data file,
    in the order of their names. A model made in memory has the digest of its serialized form.
    """
    digest = model.meta.get(_DIGEST_KEY)
    if digest is None:
        proto = ir.to_proto(model)
        return hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()
    return cast(str, digest)


def set_source_digest(model: ir.Model, digest: str) -> None:
    """Says that ``model`` came from a file with this SHA-256, by way of whatever was read."""
    model.meta[_DIGEST_KEY] = digest


def bind_batch(model: ir.Model, batch: int) -> None:
    """Fixes the first dimension of every input to ``batch``, in place, and infers all shapes anew.

    Raises:
        ModelError: ``batch`` is not positive, or an input has another, fixed batch.
    """
    if batch < 1:
        raise ModelError(f"batch must be at least 1, not {batch}")
    bindings: dict[str, int] = {}
    for value in model.graph.inputs:
        if value.shape is None or value.shape.rank() == 0:
            continue
        dim = value.shape[0]
        if isinstance(dim, int):
            if dim != batch:
                raise ModelError(
                    f"input '{value.name}' has a fixed batch of {dim}, so the model cannot be bound to a batch "
                    f"of {batch}: export it with a symbolic batch, or ask for {dim}"
                )
        elif dim.value is None:
            value.shape = ir.Shape([batch, *value.shape[1:]])
        else:
            bindings[dim.value] = batch
    bind_dimensions(model, bindings)


def bind_dimensions(model: ir.Model, bindings: Mapping[str, int]) -> None:
    """Gives numbers to symbolic dimensions by name, in place, and infers all shapes anew."""
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is not None:
            value.shape = value.shape.evaluate(bindings)
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    infer_shapes(model)


def infer_shapes(model: ir.Model) -> None:
    """Infers the shapes and types of all values, in place; keeps what is known where ONNX has no rule."""
    result = common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    logger.debug("shape inference changed the model: %s", result.modified)


def _read_file(path: Path) -> bytes:
    if not path.exists():
        raise ModelError(f"{path}: no such file")
    if path.is_dir():
        raise ModelError(f"{path}: is a folder; give the .onnx file in it")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    if not data:
        raise ModelError(f"{path}: the file is empty")
    if data.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path}: is a Git LFS pointer, not a model; run `git lfs pull`")
    return data


def _parse(data: bytes, path: Path) -> onnx.ModelProto:
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ModelError(f"{path}: not an ONNX model, or truncated: it cannot be parsed") from error
    if not proto.ir_version or not proto.HasField("graph") or not proto.opset_import:
        raise ModelError(f"{path}: not an ONNX model, or truncated: it has no graph or no opset")
    return proto


def _opset(proto: onnx.ModelProto, path: Path) -> int:
    versions: list[int] = [
        entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")
    ]
    if not versions:
        raise ModelError(f"{path}: imports no standard ONNX operators")
    if len(set(versions)) > 1:
        raise ModelError(
            f"{path}: imports the standard ONNX operators in versions {versions} at once"
        )
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= versions[0] <= newest:
        raise ModelError(
            f"{path}: opset {versions[0]} is not supported (only {OLDEST_OPSET} to {newest}); export it again "
            "with another opset_version"
        )
    return versions[0]


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yields every tensor in ``graph``: initializers, sparse ones, attributes, and those of subgraphs."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _attribute_tensors(graph.node)


def _attribute_tensors(nodes: Iterator[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _tensors(graph)


def _check_external_data(proto: onnx.ModelProto, path: Path) -> list[Path]:
    """Returns the external files of the model, in order of name, after checking each reference to them."""
    folder = path.parent.resolve()
    files: set[Path] = set()
    tensors = list(_tensors(proto.graph))
    for function in proto.functions:
        tensors.extend(_attribute_tensors(function.node))
    for tensor in tensors:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        target = folder / location
        try:
            inside = target.resolve().is_relative_to(folder) and not Path(location).is_absolute()
            found = target.is_file()
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{path}: the data of tensor '{tensor.name}' is at no path that a file can have: {_first_line(error)}"
            ) from error
        if not location or not inside:
            raise ModelError(
                f"{path}: the data of tensor '{tensor.name}' is at '{location}', which leaves the model's folder; "
                "put the data file beside the model"
            )
        if not found:
            raise ModelError(
                f"{path}: the data file '{location}' of tensor '{tensor.name}' is missing"
            )
        try:
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", 0))
        except ValueError as error:
            raise ModelError(
                f"{path}: tensor '{tensor.name}' has a damaged offset or length"
            ) from error
        try:
            item_bits = ir.DataType(tensor.data_type).bitwidth
        except (TypeError, ValueError) as error:
            raise ModelError(
                f"{path}: tensor '{tensor.name}' is of type {tensor.data_type}, which no data file can hold"
            ) from error
        if any(dim < 0 for dim in tensor.dims):
            raise ModelError(f"{path}: tensor '{tensor.name}' has negative dimensions")
        expected = (math.prod(tensor.dims) * item_bits + 7) // 8
        size = target.stat().st_size
        if offset < 0 or (length and length != expected) or offset + expected > size:
            raise ModelError(
                f"{path}: tensor '{tensor.name}' needs {expected} bytes at {offset} of '{location}', which has "
                f"{size}: the data file is truncated or belongs to another model"
            )
        files.add(target)
    return sorted(files)


def _digest(data: bytes, files: list[Path]) -> str:
    digest = hashlib.sha256(data)
    if not files:
        return digest.hexdigest()
    whole = hashlib.sha256(digest.digest())
    for file in files:
        with file.open("rb") as stream:
            whole.update(hashlib.file_digest(stream, "sha256").digest())
    return whole.hexdigest()


def _check_weights(model: ir.Model, path: Path) -> None:
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.dtype == ir.DataType.UNDEFINED:
            raise ModelError(f"{path}: initializer '{name}' has no type")
        if tensor is None or not (tensor.dtype in _FLOATS or isinstance(tensor, ir.ExternalTensor)):
            continue
        try:
            array = tensor.numpy()
        except (ValueError, TypeError, AssertionError, OverflowError, OSError) as error:
            raise ModelError(
                f"{path}: initializer '{name}' cannot be read: {_first_line(error)}"
            ) from error
        if tensor.dtype not in _FLOATS:
            continue
        good = np.isfinite(array) if array.size > 1 else ~np.isnan(array)
        bad = int(array.size - np.count_nonzero(good))
        if bad:
            raise ModelError(
                f"{path}: initializer '{name}' has {bad} of {array.size} values that are NaN or infinite; the "
                "training probably diverged"
            )


def _convert_opset(model: ir.Model, opset: int, path: Path) -> ir.Model:
    """Returns the model at the canonical opset, checked by ONNX; large weights are only handed over."""
    graph = model.graph
    large: dict[str, ir.TensorProtocol] = {}
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.nbytes > _SKELETON_BYTES:
            large[name] = tensor
        elif isinstance(tensor, ir.ExternalTensor):
            value.const_value = ir.Tensor(tensor.numpy().copy(), name=name)
    for name in large:
        value = graph.initializers.pop(name)
        value.const_value = None
        graph.inputs.append(value)
    proto = _serialize(model, path)
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        raise ModelError(
            f"{path}: the graph is not valid ONNX: {_explain(proto) or _first_line(error)}"
        ) from error
    proto = expand_functions(proto)
    if opset != CANONICAL_OPSET and _is_the_same_at(proto, opset, CANONICAL_OPSET):
        for entry in proto.opset_import:
            entry.version = CANONICAL_OPSET
    elif opset != CANONICAL_OPSET:
        try:
            proto = onnx.version_converter.convert_version(proto, CANONICAL_OPSET)
        except (RuntimeError, ValueError, onnx.shape_inference.InferenceError) as error:
            raise ModelError(_conversion_message(model, opset, str(error), path)) from error

    converted = ir.from_proto(proto)
    name_nodes(converted)
    inputs = converted.graph.inputs
    by_name = {value.name: value for value in inputs}
    for name, tensor in large.items():
        value = by_name[name]
        inputs.remove(value)
        value.const_value = tensor
        converted.graph.register_initializer(value)
    lift = common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
    converted = lift(converted).model
    if opset < _BROADCASTING_OPSET:
        _spread_slopes(converted)
    return converted


def _is_the_same_at(proto: onnx.ModelProto, opset: int, other: int) -> bool:
    """Says whether all that a model has are standard operators that did not change between two opsets."""

    def is_the_same(node: onnx.NodeProto) -> bool:
        inner = [graph for a in node.attribute for graph in (*a.graphs, a.g) if graph.node]
        try:
            versions = {
                onnx.defs.get_schema(node.op_type, at, node.domain).since_version
                for at in (opset, other)
            }
        except onnx.defs.SchemaError:
            return False
        return len(versions) == 1 and all(is_the_same(n) for graph in inner for n in graph.node)

    imported = {entry.domain for entry in proto.opset_import}
    return (
        not proto.functions and imported == {""} and all(is_the_same(n) for n in proto.graph.node)
    )


def _spread_slopes(model: ir.Model) -> None:
    """Gives the slope of each PRelu of channels the shape ``[C, 1, ...]``, with which it broadcasts since opset 7."""
    for node in model.graph:
        source, slope = (*node.inputs[:2], None, None)[:2]
        if node.op_type != "PRelu" or source is None or slope is None or source.shape is None:
            continue
        tensor = slope.const_value
        if tensor is None or len(tensor.shape) != 1 or tensor.size == 1 or len(slope.uses()) > 1:
            continue
        array = tensor.numpy().reshape(-1, *(1,) * (source.shape.rank() - 2))
        slope.const_value = ir.Tensor(array, name=slope.name)
        slope.shape = ir.Shape(array.shape)


def _open_dimensions(model: ir.Model) -> None:
    """Leaves a dimension open that exporters wrote as -1, 0 or a name of no letters such as "?".

    Such a "?" may stand for several sizes at once, which a name must not.
    """
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is None:
            continue
        dims = [dim if isinstance(dim, int) else dim.value for dim in value.shape]
        value.shape = ir.Shape(
            None
            if dim is None or (isinstance(dim, int) and dim < 1) or not str(dim).strip("?*- ")
            else dim
            for dim in dims
        )


def name_nodes(model: ir.Model) -> None:
    """Names nodes without a name after their first output, so that what is said of them can be found in the file."""
    taken = {node.name for node in model.graph.all_nodes()}
    for node in model.graph.all_nodes():
        if not node.name:
            base = name = next((value.name for value in node.outputs if value.name), None)
            while name is not None and name in taken:
                name = f"{name}_{base}"
            node.name = name
            taken.add(name)


def _serialize(model: ir.Model, path: Path) -> onnx.ModelProto:
    try:
        return ir.to_proto(model)
    except ir.serde.SerdeError as error:
        raise ModelError(f"{path}: the graph is not valid ONNX: {_first_line(error)}") from error


def _explain(proto: onnx.ModelProto) -> str:
    """Returns what keeps the shapes of ``proto`` from being inferred, with its node; "" if nothing does.

    ONNX's checker stops at the first output without a shape and does not say how it came to lack one.
    """
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    for node in proto.graph.node:
        if not onnx.defs.has(node.op_type, versions.get(node.domain, 0), node.domain):
            name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            return f"node '{node.name}': ONNX has no operator {name}; export the model with standard operators"
    try:
        onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        return " ".join(str(error).split())
    produced = {name for node in proto.graph.node for name in node.output}
    produced.update(value.name for value in (*proto.graph.input, *proto.graph.initializer))
    for node in proto.graph.node:
        for name in node.input:
            if name and name not in produced:
                return f"node '{node.name}' ({node.op_type}) reads '{name}', which nothing gives"
    for value in proto.graph.output:
        if value.name not in produced:
            return f"output '{value.name}' is given by no node"
        if not value.type.tensor_type.HasField("shape"):
            return f"the shape of output '{value.name}' depends on what the model is given; export it with fixed shapes"
    return ""


def _conversion_message(model: ir.Model, opset: int, reason: str, path: Path) -> str:
    """Names the operator that ONNX's version converter stopped at, and a node that has it."""
    words = {word.lower() for word in re.findall(r"[A-Za-z]+", reason)}
    culprits = [node for node in model.graph.all_nodes() if node.op_type.lower() in words]
    where = (
        f"operator {culprits[0].op_type} (node '{culprits[0].name}')" if culprits else "an operator"
    )
    return (
        f"{path}: {where} cannot be brought from opset {opset} to {CANONICAL_OPSET}; export the model again "
        f"with opset {CANONICAL_OPSET}. ONNX says: {reason.splitlines()[0] if reason else 'nothing'}"
    )


def _first_line(error: BaseException) -> str:
    text = str(error.__cause__ or error)
    return text.splitlines()[0] if text else type(error).__name__
