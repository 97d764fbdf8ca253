"""Says what is in a model, a plan or a bundle, after checking it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx_ir as ir

from edgekit import _native
from edgekit.bundle import find_bare_forms, read_bundle
from edgekit.converters.quantization import ActivationQuantization
from edgekit.converters.read_model import read_model
from edgekit.converters.read_onnx import get_source_digest, read_onnx
from edgekit.converters.write_onnx import size_of_onnx
from edgekit.interpreter import open_interpreter, read_facts
from edgekit.session import load
from edgekit.targets.errors import EdgekitError, ModelError


def inspect(path: Path) -> dict[str, Any]:
    """Returns the facts of an ``.onnx``, a ``.tflite``, a ``.plan`` or a deployment's folder, as JSON can hold them.

    Raises:
        ModelError: The model cannot be read.
        PlanError: The plan or bundle is damaged.
        EdgekitError: There is no such file, or it is none of these.
    """
    if path.is_dir():
        if bare := find_bare_forms(path):
            return inspect(bare[0])
        return _inspect_bundle(path)
    if not path.exists():
        raise EdgekitError(f"{path}: no such file")
    if path.suffix == ".onnx":
        return _inspect_onnx(path)
    if path.suffix == ".plan":
        return _inspect_plan(path)
    if path.suffix == ".tflite":
        return _inspect_tflite(path)
    raise EdgekitError(f"{path}: not an .onnx, a .tflite, a .plan or a bundle's folder")


def _inspect_onnx(path: Path) -> dict[str, Any]:
    return {"kind": "ONNX model", "bytes": size_of_onnx(path), **_describe_model(read_onnx(path))}


def _inspect_tflite(path: Path) -> dict[str, Any]:
    """Returns the facts of a TensorFlow Lite file, its operators by ONNX's names as they were read."""
    try:
        source = read_model(path)
    except ModelError as error:
        try:
            is_ours = bool(read_facts(path))
        except ModelError:
            # No metadata can be found in what is no TFLite file, or half of one.
            raise error from None
        if not is_ours:
            raise
        return _inspect_by_interpreter(path)
    quantized = sum(
        isinstance(record, ActivationQuantization) for record in source.records.values()
    )
    return {
        "kind": "TensorFlow Lite model",
        "bytes": path.stat().st_size,
        **_describe_model(source.graph),
        "quantized_values": quantized,
    }


def _inspect_by_interpreter(path: Path) -> dict[str, Any]:
    """Returns the facts of a file that edgekit wrote and does not read as a model: one with 16-bit codes."""
    session = load(path)
    interpreter = open_interpreter(path, 1)
    operators = (entry["op_name"] for entry in interpreter._get_ops_details())
    return {
        "kind": "TensorFlow Lite model",
        "bytes": path.stat().st_size,
        "inputs": [
            {"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype}
            for spec in session.inputs
        ],
        "outputs": session.outputs,
        "operators": dict(Counter(name for name in operators if name != "DELEGATE").most_common()),
    }


def _describe_model(model: ir.Model) -> dict[str, Any]:
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
        "layers": [
            {
                "name": op.name,
                "kind": op.kind,
                "kernel": op.kernel or None,
                "shape": list(op.output.shape),
            }
            for op in plan.ops
        ],
    }


def _describe_tensors(tensors: Iterable[_native.TensorInfo]) -> list[dict[str, Any]]:
    return [{"name": t.name, "shape": list(t.shape), "dtype": str(t.dtype)} for t in tensors]


def _inspect_bundle(path: Path) -> dict[str, Any]:
    bundle = read_bundle(path)
    return {
        "kind": "bundle",
        "target": {"name": bundle.target.name, "title": bundle.target.title},
        "versions": dict(bundle.versions),
        "origin": dict(bundle.origin),
        "files": dict(bundle.files),
        "plan": _inspect_plan(bundle.plan),
    }
