"""Fixes every shape of a model to that of a sample, so that all contestants compile for the same shapes."""

from __future__ import annotations

from pathlib import Path

import onnx

from edgekit.data import Sample
from edgekit.peers.contestant import Signature, Value
from edgekit.session import OnnxSession


def fix_shapes(source: Path, target: Path, sample: Sample) -> Signature:
    """Writes ``source`` to ``target`` with the shapes that it has for ``sample``, and returns what it takes and gives.

    Raises:
        ModelError: ONNX Runtime cannot load the model.
        EdgekitError: The sample does not fit it.
    """
    session = OnnxSession(source, 1)
    results = session.run(sample)
    model = onnx.load(source)
    _set_shapes(model.graph.input, {name: array.shape for name, array in sample.items()})
    _set_shapes(model.graph.output, {name: array.shape for name, array in results.items()})
    del model.graph.value_info[:]
    onnx.save(onnx.shape_inference.infer_shapes(model, data_prop=True), target)
    return Signature(
        inputs=tuple(
            Value(spec.name, tuple(sample[spec.name].shape), spec.dtype) for spec in session.inputs
        ),
        outputs=tuple(
            Value(name, tuple(array.shape), array.dtype.name) for name, array in results.items()
        ),
    )


def _set_shapes(values: list[onnx.ValueInfoProto], shapes: dict[str, tuple[int, ...]]) -> None:
    for value in values:
        if value.name not in shapes:
            continue
        shape = value.type.tensor_type.shape
        del shape.dim[:]
        for size in shapes[value.name]:
            shape.dim.add().dim_value = size
