"""Writes the weights of products as int4 with a scale for each block, activations as floats.

Codes lie in [-8, 7], a real weight is ``s[g, n] * q[k, n]`` with ``g = k // block`` (docs/arithmetic.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from edgekit.converters.compensate import INT4, Hessians, fit_runs
from edgekit.converters.passes.rewrite import constant
from edgekit.converters.prune.record import is_pruned
from edgekit.converters.quantizable import output_axis
from edgekit.converters.write_onnx.files import save
from edgekit.converters.write_onnx.plain import restore_clamp
from edgekit.converters.write_onnx.proto_graph import ProtoGraph, name_of
from edgekit.converters.write_onnx.styles import Style
from edgekit.targets.errors import EdgekitError, ModelError

Form = Literal["blockwise", "nbits"]
FORMS: tuple[Form, ...] = ("blockwise", "nbits")
BLOCKS = (32, 64, 128)
_LOW, _HIGH = -8, 7
_FIRST_BLOCKWISE_OPSET = 21
# Scales that are tried, as parts of the one that reaches every weight.
_TRIES = np.linspace(0.7, 1.0, 16)

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Int4Report:
    """What became int4.

    Attributes:
        written: Names of the products whose weights are int4.
        left: Of the others, with the reason.
    """

    written: tuple[str, ...]
    left: dict[str, str]


def quantize_blocks(weight: Float32Array, block: int) -> tuple[npt.NDArray[np.int8], Float32Array]:
    """Returns codes in [-8, 7] and the scale of each block of K that leaves the least squared error of those tried.

    Args:
        weight: ``[K, N]``, K a multiple of ``block``.
        block: Weights of a column that share a scale.

    Returns:
        Codes ``[K, N]`` and scales ``[K / block, N]``.
    """
    depth, width = weight.shape
    blocks = weight.reshape(depth // block, block, width)
    reach = np.maximum(blocks.max(axis=1) / _HIGH, blocks.min(axis=1) / _LOW)
    reach = np.where(reach > 0, reach, 1.0).astype(np.float32)
    best = np.full(reach.shape, np.inf)
    scales = reach.copy()
    for part in _TRIES:
        scale = (reach * np.float32(part)).astype(np.float32)
        codes = np.rint(blocks / scale[:, None]).clip(_LOW, _HIGH)
        error = ((codes * scale[:, None] - blocks) ** 2).sum(axis=1)
        better = error < best
        best, scales = np.where(better, error, best), np.where(better, scale, scales)
    codes = np.rint(blocks / scales[:, None]).clip(_LOW, _HIGH)
    return codes.reshape(depth, width).astype(np.int8), scales


def write_int4(
    model: ir.Model,
    path: str | Path,
    *,
    form: Form = "blockwise",
    block: int = 32,
    hessians: Hessians | None = None,
) -> Int4Report:
    """Writes a float model with int4 weights in its products; everything else stays as it is.

    Args:
        model: A float model, simplified.
        path: The file.
        form: "blockwise": DequantizeLinear with a ``block_size`` before MatMul (opset 21), which ONNX Runtime fuses to
            MatMulNBits in most places; "nbits": that operator itself.
        block: How many weights of a column share a scale: 32, 64 or 128.
        hessians: Of the products' inputs: the weights of those that have one are decided by it (docs/solver.md).

    Raises:
        EdgekitError: There is no such form or size of a block.
        ModelError: The model's opset is too old, or the result is not valid.
    """
    if form not in FORMS:
        raise EdgekitError(f"no int4 form {form!r}; there are: {', '.join(FORMS)}")
    if block not in BLOCKS:
        raise EdgekitError(f"a block has {', '.join(map(str, BLOCKS))} weights, not {block!r}")
    if form == "blockwise":
        _check_opset(model)
    proto, report = make_int4(model, form, block, hessians)
    save(proto, Path(path))
    return report


def make_int4(
    model: ir.Model, form: Form, block: int, hessians: Hessians | None = None
) -> tuple[onnx.ModelProto, Int4Report]:
    """Returns ``model`` with int4 weights in its products, what was quantized as floats; see `write_int4`."""
    file = ProtoGraph(model)
    written: list[str] = []
    left: dict[str, str] = {}
    replaced: set[str] = set()
    for node in model.graph:
        reason = None
        if node.op_type in ("Gemm", "MatMul") and not node.domain:
            reason = _obstacle(node, block)
            if reason is None:
                _add_product(file, node, form, block, hessians)
                written.append(node.name or "")
                replaced.add(name_of(_weight_of(node)))
                restore_clamp(file, node)
                continue
            left[node.name or ""] = reason
        file.nodes.append(ir.serde.serialize_node(node))
        restore_clamp(file, node)
    for value in model.graph.initializers.values():
        readers = {use.node.name or "" for use in value.uses()} - set(written)
        if value.name not in replaced or readers or value.is_graph_output():
            file.copy_constant(value)
    return file.finish(), Int4Report(tuple(written), left)


def write_blockwise(
    model: ir.Model, _style: Style, hessians: Hessians | None = None
) -> onnx.ModelProto:
    """Returns ``model`` with a DequantizeLinear of int4 blocks of 32 before its products.

    Raises:
        ModelError: The model's opset is too old.
    """
    _check_opset(model)
    return make_int4(model, "blockwise", BLOCKS[0], hessians)[0]


def _check_opset(model: ir.Model) -> None:
    opset = model.graph.opset_imports.get("", 0)
    if opset < _FIRST_BLOCKWISE_OPSET:
        raise ModelError(
            f"the model has opset {opset}; scales of blocks need {_FIRST_BLOCKWISE_OPSET}"
        )


def _obstacle(node: ir.Node, block: int) -> str | None:
    weight = constant(node.inputs[1])
    if weight is None:
        return "its weights are computed"
    if weight.ndim != 2 or weight.dtype != np.float32:
        return "its weights are no float32 matrix"
    if node.op_type == "Gemm" and any(
        (found := node.attributes.get(name)) is not None and found.as_float() != 1.0
        for name in ("alpha", "beta")
    ):
        return "it has alpha or beta"
    if (found := node.attributes.get("transA")) is not None and found.as_int():
        return "it has transA"
    depth = weight.shape[1 - output_axis(node)]
    if depth % block:
        return f"its {depth} inputs are no multiple of {block}"
    return None


def _weight_of(node: ir.Node) -> ir.Value:
    value = node.inputs[1]
    assert value is not None
    return value


def _decide(
    node: ir.Node, weight: Float32Array, block: int, hessians: Hessians | None
) -> tuple[npt.NDArray[np.int8], Float32Array]:
    """Returns codes and scales as `quantize_blocks` does, by the Hessian of the node's input where there is one."""
    name = node.name or ""
    if hessians is None or name not in hessians:
        return quantize_blocks(np.ascontiguousarray(weight), block)
    found = fit_runs(
        weight.T.astype(np.float64),
        hessians.blended(name)[0],
        INT4,
        block,
        keep_zeros=is_pruned(node),
    )
    codes = np.ascontiguousarray(found.codes[0].T, np.int8)
    return codes, np.ascontiguousarray(found.scales[0].T, np.float32)


def _add_product(
    file: ProtoGraph, node: ir.Node, form: Form, block: int, hessians: Hessians | None
) -> None:
    """Adds the product on int4 weights, and the sum with the bias of a Gemm."""
    proto = ir.serde.serialize_node(node)
    array = constant(node.inputs[1])
    assert array is not None
    weight = np.asarray(array, np.float32)
    if output_axis(node) == 0:
        weight = weight.T
    codes, scales = _decide(node, weight, block, hessians)
    # Nodes may share weights and read them differently: names go by the node.
    name, result = node.name or proto.output[0], proto.output[0]
    bias = proto.input[2] if len(proto.input) > 2 and proto.input[2] else None
    product = result if bias is None else f"{result}:product"
    if form == "blockwise":
        packed = codes.astype(ml_dtypes.int4)
        file.add_constant(f"{name}:codes", packed)
        file.add_constant(f"{name}:scale", scales)
        file.add_node(
            "DequantizeLinear",
            [f"{name}:codes", f"{name}:scale"],
            [f"{name}:weight"],
            f"{name}:dequantize",
            axis=0,
            block_size=block,
        )
        file.add_node("MatMul", [proto.input[0], f"{name}:weight"], [product], node.name or "")
    else:
        file.add_constant(f"{name}:codes", pack_nbits(codes, block))
        file.add_constant(f"{name}:scale", np.ascontiguousarray(scales.T).reshape(-1))
        file.add_node(
            "MatMulNBits",
            [proto.input[0], f"{name}:codes", f"{name}:scale"],
            [product],
            node.name or "",
            "com.microsoft",
            K=codes.shape[0],
            N=codes.shape[1],
            bits=4,
            block_size=block,
        )
    if bias is not None:
        file.add_node("Add", [product, bias], [result], f"{name}:bias")


def pack_nbits(codes: npt.NDArray[np.int8], block: int) -> npt.NDArray[np.uint8]:
    """Returns codes ``[K, N]`` as MatMulNBits reads them: ``[N, K / block, block / 2]``, two to a byte, each plus 8.

    The even one of two lies in the lower four bits.

    >>> pack_nbits(np.arange(-8, 8, dtype=np.int8).reshape(16, 1), 16)[0, 0, :3].tolist()
    [16, 50, 84]
    """
    depth, width = codes.shape
    shifted = (codes.T.astype(np.int16) - _LOW).astype(np.uint8)
    pairs = shifted.reshape(width, math.ceil(depth / block), block // 2, 2)
    return np.ascontiguousarray(pairs[..., 0] | (pairs[..., 1] << 4))
