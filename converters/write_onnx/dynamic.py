"""Writes products of int8 or int4 weights with float rows, which may get codes at run time (docs/arithmetic.md).

ONNX Runtime's operator for them is ``com.microsoft.MatMulNBits`` of 8 or 4 bits. Of rows with codes it gives each block
its own scale, where the native form gives one to the whole row, so that answers are a little closer to the float
model's. The weights' codes and scales are the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from edgekit.converters.passes.rewrite import constant
from edgekit.converters.program import codes_name
from edgekit.converters.quantizable import DYNAMIC, output_axis
from edgekit.converters.quantization import (
    WeightQuantization,
    get_quantization,
    get_wide_steps,
    is_dynamic,
    stays_float,
)
from edgekit.converters.write_onnx.proto_graph import ProtoGraph, name_of
from edgekit.converters.write_onnx.styles import Style

_MICROSOFT = "com.microsoft"
# Values of a row that share a scale, the size that takes least time first; the last block is filled up with zeros.
_BLOCKS = (128, 64, 32, 16)
_MOST_FILLED = 9 / 8
# Rows are rounded to int8, or stay float32.
_INT8_ROWS, _FLOAT_ROWS = 4, 1


def has_product_codes(value: ir.Value | None, style: Style) -> bool:
    """Returns whether ``value`` is weights that `add_product_codes` writes for all that reads them."""
    if value is None or not style.multiplies_dynamically:
        return False
    uses = value.uses()
    return bool(uses) and all(use.idx == 1 and _weights(use.node) is not None for use in uses)


def add_product_codes(file: ProtoGraph, node: ir.Node, proto: onnx.NodeProto, style: Style) -> None:
    """Lets ``proto``, written for a product that stays float, multiply the codes of its weights.

    Args:
        file: Gets the codes.
        node: May be of any kind; those without such weights are left alone.
        proto: Is changed; its first input and its outputs stay.
        style: Of the file.
    """
    record = _weights(node)
    if record is None or not has_product_codes(node.inputs[1], style):
        return
    codes = np.asarray(record.codes, np.int8)
    columns = codes if output_axis(node) == 0 else codes.T
    width, depth = columns.shape
    weight = node.inputs[1]
    assert weight is not None
    name = name_of(weight)
    block = record.group or next(
        (size for size in _BLOCKS if -(-depth // size) * size <= _MOST_FILLED * depth), _BLOCKS[-1]
    )
    packed = pack_blocks(columns, block, record.bits)
    if record.group:
        scales = np.ascontiguousarray(record.scale.T, np.float32).reshape(-1)
    else:
        whole = np.broadcast_to(record.scale.astype(np.float32).reshape(-1), (width,))
        scales = np.repeat(whole, packed.shape[1])
    given = [
        proto.input[0],
        file.add_constant(codes_name(name), packed),
        file.add_constant(f"{name}:scale", scales),
    ]
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is not None:
        whole = np.broadcast_to(bias.astype(np.float32).reshape(-1), (width,))
        given += ["", "", file.add_constant(f"{proto.output[0]}:bias", whole)]
    numbers = {
        "K": depth,
        "N": width,
        "accuracy_level": _INT8_ROWS if is_dynamic(node) else _FLOAT_ROWS,
        "bits": record.bits,
        "block_size": block,
    }
    proto.op_type, proto.domain = "MatMulNBits", _MICROSOFT
    proto.input[:] = given
    del proto.attribute[:]
    proto.attribute.extend(onnx.helper.make_attribute(key, n) for key, n in numbers.items())
    file.opsets.setdefault(_MICROSOFT, 1)


def pack_blocks(columns: npt.NDArray[np.int8], block: int, bits: int = 8) -> npt.NDArray[np.uint8]:
    """Returns codes ``[N, K]`` as MatMulNBits reads them, ``[N, ceil(K / block), block]``, each plus 128.

    Of 4 bits, each plus 8, two share a byte, the first in its lower half.

    >>> pack_blocks(np.array([[-127, 0, 5]], np.int8), 2).tolist()
    [[[1, 128], [133, 128]]]
    >>> pack_blocks(np.array([[-8, 0, 7]], np.int8), 2, 4).tolist()
    [[[128], [143]]]
    """
    width, depth = columns.shape
    count = -(-depth // block)
    # What stands for 0 where no zero points are given.
    zero = 1 << (bits - 1)
    whole = np.full((width, count * block), zero, np.uint8)
    whole[:, :depth] = (columns.astype(np.int16) + zero).astype(np.uint8)
    if bits == 4:
        whole = whole[:, ::2] | (whole[:, 1::2] << 4)
    return whole.reshape(width, count, -1)


def _weights(node: ir.Node) -> WeightQuantization | None:
    """Returns the codes of the weights of a product that stays float, None of any other node."""
    if (
        node.domain
        or node.op_type not in DYNAMIC
        or not stays_float(node)
        or get_wide_steps(node) is not None
    ):
        return None
    weight = node.inputs[1]
    record = None if weight is None else get_quantization(weight)
    if not isinstance(record, WeightQuantization) or record.codes.dtype != np.int8:
        return None
    return record
