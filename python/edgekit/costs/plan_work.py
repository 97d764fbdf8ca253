"""What the layers of a plan have to do: multiplications and bytes, read from the file."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import _native
from edgekit._schema import plan_generated as schema

_GRAPH_OFFSET = struct.Struct("<Q")
_GRAPH_OFFSET_AT = 24
_SIZES = {
    schema.DType.Code: 1,
    schema.DType.Int32: 4,
    schema.DType.Float32: 4,
    schema.DType.Int64: 8,
    schema.DType.UInt8: 1,
    schema.DType.Bool: 1,
}
_CONVOLUTIONS = ("Conv", "FloatConv", "WideConv")
_DEPTHWISE = ("DepthwiseConv", "FloatDepthwiseConv", "WideDepthwiseConv")
_CONNECTED = ("FullyConnected", "FloatFullyConnected", "DynamicFullyConnected")
_MATRICES = ("MatMul", "FloatMatMul")
_TRANSPOSED = ("ConvTranspose", "FloatConvTranspose")
# Fields of an operator's table that hold indices of tensors.
_READS = ("input", "a", "b", "indices", "condition")


@dataclass(frozen=True)
class Work:
    """What one operator does in a run.

    Attributes:
        op: Its name.
        kind: Its table in plan.fbs.
        products: Multiplications, 0 for operators without weights or matrices.
        values: Elements of its output.
        bytes: Of inputs, output and packed weights.
    """

    op: str
    kind: str
    products: int
    values: int
    bytes: int


def count_work(path: Path) -> list[Work]:
    """Returns the work of each operator of a plan's first size, in order of execution.

    Raises:
        PlanError: The file is no plan, or a damaged one.
    """
    # Everything is checked there, so that the file can be believed here.
    _native.Plan.open(path)
    content = path.read_bytes()
    (start,) = _GRAPH_OFFSET.unpack_from(content, _GRAPH_OFFSET_AT)
    graph: Any = schema.PlanT.InitFromObj(schema.Plan.GetRootAs(content, start))
    kinds = {value: name for name, value in vars(schema.OpParams).items() if name[0].isalpha()}
    return [_count(op, kinds[op.paramsType], graph.tensors) for op in graph.ops]


def _count(op: Any, kind: str, tensors: list[Any]) -> Work:
    params = op.params
    output = tensors[params.output]
    read = [getattr(params, key) for key in _READS if hasattr(params, key)]
    read += list(getattr(params, "inputs", ()))
    moved = sum(_count_bytes(tensors[index]) for index in [*read, params.output])
    weights = getattr(params, "weights", None)
    return Work(
        op=_decode(op.name),
        kind=kind,
        products=_count_products(params, kind, tensors),
        values=math.prod(_list_dims(output)),
        bytes=moved + (0 if weights is None else int(weights.size)),
    )


def _count_products(params: Any, kind: str, tensors: list[Any]) -> int:
    taps = params.kernelH * params.kernelW if hasattr(params, "kernelH") else 1
    output = _list_dims(tensors[params.output])
    if kind in _CONVOLUTIONS:
        channels = int(tensors[params.input].shape[-1]) // int(getattr(params, "groups", 1))
        return math.prod(output) * int(taps) * channels
    if kind in _DEPTHWISE:
        return math.prod(output) * int(taps)
    if kind in _CONNECTED:
        return math.prod(output) * int(tensors[params.input].shape[-1])
    if kind in _MATRICES:
        return math.prod(output) * int(tensors[params.a].shape[-1])
    if kind in _TRANSPOSED:
        pixels = math.prod(_list_dims(tensors[params.input]))
        return pixels * int(taps) * output[-1]
    return 0


def _count_bytes(tensor: Any) -> int:
    return math.prod(_list_dims(tensor)) * _SIZES[tensor.dtype]


def _list_dims(tensor: Any) -> list[int]:
    return [] if tensor.shape is None else [int(n) for n in tensor.shape]


def _decode(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
