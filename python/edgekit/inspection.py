"""Says what is in a model, a plan or a bundle, after checking it."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import _native
from edgekit.bundles.archive import is_bundle_file, unpacked
from edgekit.bundles.bundle import find_bare_forms, read_bundle
from edgekit.converters.onnx_file import size_of_onnx
from edgekit.converters.size_names import describe_shapes
from edgekit.costs.sparse_work import find_sparse_work
from edgekit.targets.errors import EdgekitError, ModelError

# Models are read by what takes a second to import; plans and bundles are not.
if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.converters.read_tflite.records import Tensor


def inspect(path: Path) -> dict[str, Any]:
    """Returns the facts of an ``.onnx``, a ``.tflite``, a ``.plan`` or a deployment, as JSON can hold them.

    Raises:
        ModelError: The model cannot be read.
        PlanError: The plan or bundle is damaged.
        EdgekitError: There is no such file, or it is none of these.
    """
    if path.is_dir():
        if bare := find_bare_forms(path):
            return inspect(bare[0])
        return _inspect_bundle(path)
    if is_bundle_file(path):
        with unpacked(path) as folder:
            return _inspect_bundle(folder)
    if not path.exists():
        raise EdgekitError(f"{path}: no such file")
    if path.suffix.lower() == ".onnx":
        return _inspect_onnx(path)
    if path.suffix.lower() == ".plan":
        return _inspect_plan(path)
    if path.suffix.lower() == ".tflite":
        return _inspect_tflite(path)
    raise EdgekitError(f"{path}: not an .onnx, a .tflite, a .plan or a bundle")


def _inspect_onnx(path: Path) -> dict[str, Any]:
    from edgekit.converters.read_onnx import read_onnx

    return {"kind": "ONNX model", "bytes": size_of_onnx(path), **_describe_model(read_onnx(path))}


def _inspect_tflite(path: Path) -> dict[str, Any]:
    """Returns the facts of a TensorFlow Lite file: operators, types and orders of dimensions are the file's own."""
    from edgekit.converters.read_tflite.file import parse, read_bytes

    data = read_bytes(path)
    file = parse(data, str(path))
    constants: Counter[str] = Counter()
    for tensor in file.tensors:
        if tensor.data is not None:
            constants[tensor.type.lower()] += math.prod(tensor.shape)
    computed = (tensor for tensor in file.tensors if tensor.data is None)
    return {
        "kind": "TensorFlow Lite model",
        "bytes": len(data),
        "source_digest": hashlib.sha256(data).hexdigest(),
        "inputs": [_describe_tflite(name, file.tensors[index]) for name, index in file.inputs],
        "outputs": [_describe_tflite(name, file.tensors[index]) for name, index in file.outputs],
        "parameters": sum(constants.values()),
        "constants": dict(constants.most_common()),
        "operators": dict(Counter(operator.code for operator in file.operators).most_common()),
        "quantized_values": sum(tensor.grid is not None for tensor in computed),
        "not_for_deploy": _obstacle(path),
    }


def _describe_tflite(name: str, tensor: Tensor) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "name": name,
        "shape": ["any" if size is None else size for size in tensor.signature],
        "dtype": tensor.type.lower(),
    }
    if tensor.grid is not None:
        facts["scale"] = tensor.grid.scale.tolist()
        facts["zero_point"] = tensor.grid.zero_point.tolist()
    return facts


def _obstacle(path: Path) -> str | None:
    """Returns why `deploy` would refuse a file that is whole, None where it would not."""
    from edgekit.converters.read_tflite import read_tflite

    try:
        read_tflite(path)
    except ModelError as error:
        return str(error).removeprefix(f"{path}: ")
    return None


def _describe_model(model: ir.Model) -> dict[str, Any]:
    from edgekit.converters.read_onnx import get_source_digest

    graph = model.graph
    return {
        "source_digest": get_source_digest(model),
        "inputs": [_describe_value(value) for value in graph.inputs],
        "outputs": [_describe_value(value) for value in graph.outputs],
        "parameters": sum(
            math.prod(value.const_value.shape.numpy())
            for value in graph.initializers.values()
            if value.const_value is not None
        ),
        "operators": dict(Counter(node.op_type for node in graph).most_common()),
    }


def _describe_value(value: Any) -> dict[str, Any]:
    shape = (
        None if value.shape is None else [n if isinstance(n, int) else str(n) for n in value.shape]
    )
    dtype = None if value.dtype is None else value.dtype.name.lower()
    return {"name": value.name, "shape": shape, "dtype": dtype}


def _inspect_plan(path: Path) -> dict[str, Any]:
    plan = _native.Plan.open(path)
    sparse = find_sparse_work(path)
    return {
        "kind": "plan",
        "bytes": path.stat().st_size,
        "format_version": plan.format_version,
        "producer": plan.producer,
        "target": plan.target,
        "isa": plan.isa,
        "source_digest": plan.source_digest,
        "metadata": plan.metadata,
        "arena_bytes": plan.arena_size,
        "arena_lower_bound_bytes": plan.arena_lower_bound,
        "inputs": _describe_tensors(plan.inputs),
        "outputs": _describe_tensors(plan.outputs),
        **_describe_sizes(plan),
        "layers": [
            {
                "name": op.name,
                "kind": op.kind,
                "kernel": op.kernel or None,
                "shape": list(op.output.shape),
                **(sparse[op.name].to_dict() if op.name in sparse else {}),
            }
            for op in plan.ops
        ],
    }


def _describe_sizes(plan: _native.Plan) -> dict[str, Any]:
    """Returns the sizes of a plan that has several."""
    if len(plan.sizes) == 1:
        return {}
    return {
        "sizes": [
            {
                "inputs": describe_shapes({t.name: t.shape for t in size.inputs}),
                "arena_bytes": size.arena_size,
            }
            for size in plan.sizes
        ]
    }


def _describe_tensors(tensors: Iterable[_native.TensorInfo]) -> list[dict[str, Any]]:
    return [{"name": t.name, "shape": list(t.shape), "dtype": str(t.dtype)} for t in tensors]


def _inspect_bundle(path: Path) -> dict[str, Any]:
    bundle = read_bundle(path)
    return {
        "kind": "bundle",
        "target": {"name": bundle.target.name, "title": bundle.target.title},
        "release": bundle.release,
        "limits": bundle.limits.to_dict(),
        "labels": len(bundle.usage.labels),
        "preprocessing": bundle.usage.preprocessing and bundle.usage.preprocessing.to_dict(),
        "certificate": bundle.certificate,
        "versions": dict(bundle.versions),
        "origin": dict(bundle.origin),
        "files": dict(bundle.files),
        "plan": "locked for the keys of devices"
        if bundle.is_locked
        else _inspect_plan(bundle.plan),
    }
