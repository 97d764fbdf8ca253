"""Runs ONNX models as they are written: no graph optimization, so that every rounding in the file is made."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime

from edgekit.converters.doctor.subject import Sample
from edgekit.converters.full_disk import name_full_disk
from edgekit.targets.errors import ModelError

# Above this, weights go to a file of their own: protobuf ends at 2 GB.
_LARGE_BYTES = 2**30
_SMALL_BYTES = 2**16


def write_model(model: ir.Model, path: Path) -> None:
    """Writes ``model`` to ``path``; weights beyond a gigabyte go to a file of that name with ``.data``.

    Raises:
        EdgekitError: The disk is full.
        ModelError: The graph cannot be written.
    """
    try:
        with name_full_disk(path, "free some space and run the command again"):
            if _weight_bytes(model) > _LARGE_BYTES:
                ir.save(model, path, external_data=f"{path.name}.data")
            else:
                path.write_bytes(ir.to_proto(model).SerializeToString(deterministic=True))
    except (ir.serde.SerdeError, ValueError) as error:
        raise ModelError(f"{path}: the model cannot be written: {error}") from error


def load_weights(model: ir.Model) -> None:
    """Brings weights from other files into memory, in place, where they fit into one file with the graph.

    Otherwise only the small ones, which shapes and axes are read from.
    """
    if _weight_bytes(model) <= _LARGE_BYTES:
        ir.external_data.load_to_model(model)
        return
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor) and tensor.nbytes <= _SMALL_BYTES:
            value.const_value = ir.Tensor(
                np.array(tensor.numpy()), dtype=tensor.dtype, name=tensor.name
            )


def _weight_bytes(model: ir.Model) -> int:
    tensors = (value.const_value for value in model.graph.initializers.values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def copy_model(model: ir.Model) -> ir.Model:
    """Returns a model that can be changed without touching ``model``; weights are shared."""
    copy = model.clone()
    made = [value for node in copy.graph.all_nodes() for value in node.outputs]
    for value in (*made, *copy.graph.inputs, *copy.graph.initializers.values()):
        # A clone's values share the objects that say their types and shapes.
        if isinstance(value.type, ir.TensorType):
            value.type = ir.TensorType(value.type.dtype)
        if value.shape is not None:
            value.shape = ir.Shape(value.shape)
    return copy


def run_plainly(
    model: ir.Model, samples: Sequence[Sample], values: Iterable[str] | None = None
) -> list[dict[str, npt.NDArray[np.generic]]]:
    """Returns what ``model`` answers to each sample without graph optimization.

    Args:
        model: Is left as it is.
        samples: Inputs by name.
        values: Names of values to answer with in place of the outputs.

    Raises:
        ModelError: ONNX Runtime cannot load or run it.
    """
    names = None if values is None else list(values)
    copy = copy_model(model)
    if names is not None:
        made = {value.name: value for node in copy.graph for value in node.outputs}
        made.update({value.name: value for value in copy.graph.inputs})
        del copy.graph.outputs[:]
        # An output has to have a type; a value whose type is not known is left out.
        names = [name for name in names if made[name].dtype is not None]
        copy.graph.outputs.extend(made[name] for name in names)
        if not names:
            return [{} for _ in samples]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_model(copy, path)
        try:
            session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            wanted = [info.name for info in session.get_outputs()]
            return [
                dict(zip(wanted, session.run(wanted, dict(sample)), strict=True))
                for sample in samples
            ]
        except Exception as error:  # ONNX Runtime's own classes share no public base.
            raise ModelError(f"ONNX Runtime cannot run the model: {error}") from error
