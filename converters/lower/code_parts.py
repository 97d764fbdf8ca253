"""Lowers layers whose codes come in parts: to the operators for int8 on inputs that are so many times as long."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from edgekit.converters.float_program import FloatBinary, FloatOperator
from edgekit.converters.lower.groups import read_bias
from edgekit.converters.lower.linear import largest_sum
from edgekit.converters.lower.products import read_rows
from edgekit.converters.lower.state import Lowering, refuse
from edgekit.converters.part_program import PARTS_OF_A_CODE, QuantizeParts
from edgekit.converters.passes.rewrite import attribute
from edgekit.converters.program import (
    Conv,
    DepthwiseConv,
    DType,
    Float32Array,
    FullyConnected,
    Int8Array,
    Int32Array,
    Reshape,
    Tensor,
    Window,
)
from edgekit.converters.quantization import (
    ActivationQuantization,
    PartGrids,
    WeightQuantization,
    get_quantization,
)
from edgekit.converters.quantize.parts import find_result
from edgekit.converters.window import read_window

_INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class _Weights:
    """Weights ``[n, ..., k]`` for one product, of scales ``[n]``."""

    codes: Int8Array
    scale: Float32Array


def lower_parts(lowering: Lowering, node: ir.Node, grids: PartGrids) -> None:
    """Emits a layer that reads codes as they are, or float32 in parts, and writes float32.

    A depthwise convolution writes codes, on the grid of the clamp behind it where there is one, which is then done too.

    Raises:
        ModelError: Its shapes or records do not fit together, or a sum could leave int32.
    """
    value = node.inputs[1]
    record = None if value is None else get_quantization(value)
    if not isinstance(record, WeightQuantization):
        refuse(node, "its weights have no codes")
    if node.op_type == "Conv":
        _lower_conv(lowering, node, grids, record)
    else:
        _lower_rows(lowering, node, grids, record)


def _lower_conv(
    lowering: Lowering, node: ir.Node, grids: PartGrids, record: WeightQuantization
) -> None:
    codes = np.ascontiguousarray(record.codes.transpose(0, 2, 3, 1), np.int8)
    rest = None if record.rest is None else record.rest.transpose(0, 2, 3, 1).astype(np.int8)
    count, kernel_h, kernel_w, depth = codes.shape
    scale = np.array(np.broadcast_to(record.scale, (count,)), np.float32)
    groups = attribute(node, "group", 1)
    depthwise = groups > 1
    coded = _find_codes(lowering, node, grids)
    if depthwise and rest is not None:
        coded = None
    x = lowering.channels_last(coded or _read_image(lowering, node))
    batch, height, width, channels = x.shape
    if depth * groups != channels or (depthwise and (depth != 1 or count != groups)):
        refuse(node, f"{groups} groups of {depth} channels do not fit {channels} inputs")
    try:
        window = read_window(node, (kernel_h, kernel_w), height, width)
    except ValueError as error:
        refuse(node, str(error))
    rows, columns = window.output_size(height, width)
    shape = (batch, rows, columns, count)
    if depthwise:
        taps = codes[..., 0]
        parts = [taps] if coded else _list_parts(taps, None if rest is None else rest[..., 0])
        if coded is None:
            rows_of_parts = _make_parts(lowering, node, x, grids.input, len(parts), axis=2)
            x = _join_rows(lowering, rows_of_parts, x, len(parts))
        _emit_depthwise(lowering, node, grids, x, parts, scale, window, shape)
        return
    y = lowering.add_real_output(node, shape, channels_last=True)
    products = _list_products(codes, rest, scale, coded=coded is not None)
    if coded is None:
        x = _make_parts(lowering, node, x, grids.input, 2 if rest is None else 3, axis=3)
    _emit_products(lowering, node, x, y, products, window)


def _lower_rows(
    lowering: Lowering, node: ir.Node, grids: PartGrids, record: WeightQuantization
) -> None:
    def turn(array: Int8Array) -> Int8Array:
        return (array if record.axis == 0 else array.T).astype(np.int8)

    coded = _find_codes(lowering, node, grids)
    lowering.computes = DType.FLOAT32 if coded is None else DType.CODE
    x, codes = read_rows(lowering, node, turn(np.asarray(record.codes)))
    rest = None if record.rest is None else read_rows(lowering, node, turn(record.rest))[1]
    lowering.computes = DType.FLOAT32
    scale = np.array(np.broadcast_to(record.scale, (len(codes),)), np.float32)
    y = lowering.add_real_output(node, (*x.shape[:-1], len(codes)), channels_last=False)
    products = _list_products(codes, rest, scale, coded=coded is not None)
    if coded is None:
        x = _make_parts(
            lowering, node, x, grids.input, 2 if rest is None else 3, axis=len(x.shape) - 1
        )
    _emit_products(lowering, node, x, y, products, None)


def _find_codes(lowering: Lowering, node: ir.Node, grids: PartGrids) -> Tensor | None:
    """Returns the codes of the input where they are what there is of it, or all that is wanted; None otherwise."""
    value = node.inputs[0]
    if value is None:
        return None
    return lowering.made_codes(node, grids.input) if grids.whole else lowering.coded(value)


def _read_image(lowering: Lowering, node: ir.Node) -> Tensor:
    source = lowering.numbers(node, 0)
    if len(source.shape) != 4:
        refuse(node, f"it convolves a tensor of rank {len(source.shape)}, not 4")
    return source


def _list_parts(codes: Int8Array, rest: Int8Array | None) -> list[Int8Array]:
    """Returns what multiplies each part of the input: docs/arithmetic.md, "Codes in parts"."""
    whole = codes.astype(np.float64)
    if rest is not None:
        whole = whole + rest / PARTS_OF_A_CODE
    fine = np.rint(whole / PARTS_OF_A_CODE).astype(np.int8)
    return [codes, fine] if rest is None else [codes, fine, rest]


def _list_products(
    codes: Int8Array, rest: Int8Array | None, scale: Float32Array, *, coded: bool
) -> list[_Weights]:
    """Returns the products that add up to the output: one of all parts, or of codes one for each part of weights."""
    if not coded:
        return [_Weights(np.concatenate(_list_parts(codes, rest), axis=-1), scale)]
    found = [_Weights(codes, scale)]
    if rest is not None:
        found.append(_Weights(rest, scale / np.float32(PARTS_OF_A_CODE)))
    return found


def _make_parts(
    lowering: Lowering,
    node: ir.Node,
    x: Tensor,
    grid: ActivationQuantization,
    count: int,
    axis: int,
) -> Tensor:
    """Returns the codes of ``x`` in parts along ``axis``; they are made once for all that read them so."""
    name = f"{x.name}:parts{count}" + ("" if axis == len(x.shape) - 1 else f".{axis}")
    known = lowering.tensors.get(name)
    if known is not None:
        return known
    shape = tuple(size * count if i == axis else size for i, size in enumerate(x.shape))
    parts = lowering.new_tensor(
        Tensor(
            name,
            shape,
            scale=np.float32(grid.scale),
            zero_point=grid.zero_point,
            channels_last=x.channels_last,
            flattened=None,
        )
    )
    lowering.emit(
        QuantizeParts(
            name=lowering.op_name(node, ":parts"),
            input=x.name,
            output=parts.name,
            axis=axis,
            lo=grid.lo,
            hi=grid.hi,
        )
    )
    return parts


def _join_rows(lowering: Lowering, parts: Tensor, image: Tensor, count: int) -> Tensor:
    """Returns the parts of each row of ``image``, side by side so far, as ``count`` rows."""
    name = f"{parts.name}:rows"
    known = lowering.tensors.get(name)
    if known is not None:
        return known
    batch, height, width, channels = image.shape
    joined = lowering.new_tensor(
        replace(parts, name=name, shape=(batch, height * count, width, channels))
    )
    lowering.emit(Reshape(name=lowering.unique_name(name), input=parts.name, output=joined.name))
    return joined


def _emit_depthwise(
    lowering: Lowering,
    node: ir.Node,
    grids: PartGrids,
    x: Tensor,
    parts: list[Int8Array],
    scale: Float32Array,
    window: Window,
    shape: tuple[int, ...],
) -> None:
    count, times = shape[3], len(parts)
    # Row r of part p of the kernel lies on row r * times + p of the image.
    weights = np.stack(parts, axis=2).reshape(count, window.kernel_h * times, window.kernel_w)
    if times > 1:
        window = replace(
            window,
            kernel_h=window.kernel_h * times,
            stride_h=window.stride_h * times,
            pad_top=window.pad_top * times,
            pad_bottom=window.pad_bottom * times,
        )
    result = find_result(node)
    known = get_quantization(result)
    grid = known if isinstance(known, ActivationQuantization) else grids.output
    owner = node
    if result is not node.outputs[0]:
        clamp = result.producer()
        assert clamp is not None
        lowering.done.add(clamp)
        owner = clamp
    bias, product = _constants(lowering, node, x, _Weights(weights, scale), has_bias=True)
    y = lowering.add_output(owner, shape, grid, channels_last=True, dtype=DType.CODE)
    multiplier = product / np.float32(grid.scale)
    _check_multiplier(node, multiplier)
    lowering.emit(
        DepthwiseConv(
            name=lowering.op_name(node),
            input=x.name,
            output=y.name,
            weights=np.ascontiguousarray(weights),
            bias=bias,
            multiplier=multiplier,
            weight_scale=scale,
            window=window,
            lo=grid.lo,
            hi=grid.hi,
        )
    )


def _emit_products(
    lowering: Lowering,
    node: ir.Node,
    x: Tensor,
    y: Tensor,
    products: list[_Weights],
    window: Window | None,
) -> None:
    """Emits the products of ``x`` and their sum, which is ``y``."""
    sums: list[Tensor] = []
    for index, weights in enumerate(products):
        last = len(products) == 1
        result = y if last else lowering.new_tensor(replace(y, name=f"{y.name}:product{index}"))
        bias, multiplier = _constants(lowering, node, x, weights, has_bias=index == 0)
        _check_multiplier(node, multiplier)
        name = lowering.op_name(node, "" if last else f":product{index}")
        if window is None:
            lowering.emit(
                FullyConnected(
                    name=name,
                    input=x.name,
                    output=result.name,
                    weights=np.ascontiguousarray(weights.codes),
                    bias=bias,
                    multiplier=multiplier,
                    weight_scale=weights.scale,
                )
            )
        else:
            lowering.emit(
                Conv(
                    name=name,
                    input=x.name,
                    output=result.name,
                    weights=np.ascontiguousarray(weights.codes),
                    bias=bias,
                    multiplier=multiplier,
                    weight_scale=weights.scale,
                    window=window,
                )
            )
        sums.append(result)
    if len(sums) > 1:
        lowering.emit(
            FloatBinary(
                name=lowering.op_name(node),
                a=sums[1].name,
                b=sums[0].name,
                output=y.name,
                operator=FloatOperator.ADD,
            )
        )


def _constants(
    lowering: Lowering, node: ir.Node, x: Tensor, weights: _Weights, *, has_bias: bool
) -> tuple[Int32Array, Float32Array]:
    """Returns the bias, int32 ``[n]``, and the real value of a sum's step, float32 ``[n]``.

    Raises:
        ModelError: A sum could leave int32.
    """
    count = len(weights.codes)
    product: Float32Array = np.float32(x.scale) * weights.scale
    bias = np.zeros(count, np.int64)
    if has_bias:
        real = read_bias(lowering, node, count).astype(np.float64)
        steps = np.rint(real / product.astype(np.float64))
        if not (np.abs(steps).max(initial=0.0) < _INT32_MAX):
            refuse(node, "its bias is too large for the scales of its input and its weights")
        bias = steps.astype(np.int64)
    bound = largest_sum(weights.codes, bias.astype(np.int32), x.zero_point)
    if bound > _INT32_MAX:
        refuse(node, f"its sums could reach {bound}, which leaves int32")
    return bias.astype(np.int32), product


def _check_multiplier(node: ir.Node, multiplier: Float32Array) -> None:
    if not np.all(np.isfinite(multiplier) & (multiplier > 0)):
        refuse(node, "the ratio of its scales is not a positive finite float32")
