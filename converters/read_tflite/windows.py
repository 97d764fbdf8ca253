"""Convolutions, pools and fully connected layers of a TensorFlow Lite file as ONNX nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.converters.quantization import WeightQuantization
from edgekit.converters.read_tflite.network import Layout, Network
from edgekit.converters.read_tflite.records import Operator, Tensor

_SAME, _VALID = 0, 1
_WEIGHT_LIMIT = 127
# Types of biases that are codes: sums behind activations of 8 and of 16 bits.
_SUMS = ("INT32", "INT64")
ACTIVATIONS = {
    1: ("Relu", None),
    2: ("Clip", (-1.0, 1.0)),
    3: ("Clip", (0.0, 6.0)),
    4: ("Tanh", None),
}


def read_conv(network: Network, operator: Operator) -> None:
    """CONV_2D: weights ``[out, height, width, in]``; fewer channels than the input's make groups."""
    weight = _weight(network, operator, 1, 4)
    image = network.tensor(operator, 0)
    group = 1
    if weight.shape[3] and len(image.shape) == 4:
        group = max(image.shape[3] // weight.shape[3], 1)
    _convolve(network, operator, weight, (0, 3, 1, 2), 0, group)


def read_depthwise_conv(network: Network, operator: Operator) -> None:
    """DEPTHWISE_CONV_2D: weights ``[1, height, width, out]``, a group for each input channel."""
    weight = _weight(network, operator, 1, 4)
    multiplier = max(network.option(operator, "DepthMultiplier", 1), 1)
    if weight.shape[3] % multiplier:
        network.refuse(operator, f"{weight.shape[3]} outputs are no multiple of {multiplier}")
    _convolve(network, operator, weight, (3, 0, 1, 2), 3, weight.shape[3] // multiplier)


def read_transpose_conv(network: Network, operator: Operator) -> None:
    """TRANSPOSE_CONV: weights ``[out, height, width, in]``, the output's shape a constant."""
    rows, columns = (_constant_shape(network, operator, 0))[1:3]
    weight = _weight(network, operator, 1, 4)
    image = network.tensor(operator, 2)
    if len(image.shape) != 4:
        network.refuse(operator, f"its input has {len(image.shape)} dimensions, not 4")
    strides = _pair(network, operator, "Stride")
    pads = [[0, 0], [0, 0]]
    outside = [0, 0]
    for axis, (size, whole) in enumerate(zip(image.shape[1:3], (rows, columns), strict=True)):
        # What a window over the output would be padded with, cut off here.
        full = (size - 1) * strides[axis] + weight.shape[1 + axis]
        cut = full - whole
        if cut < 0:
            outside[axis] = -cut
        elif network.option(operator, "Padding") == _SAME:
            pads[axis] = [cut // 2, cut - cut // 2]
        else:
            pads[axis] = [0, cut]
    name, axis_of_scale = _add_weight(network, weight, (3, 0, 1, 2), 0)
    inputs = [network.get(image, Layout.IMAGE), name]
    bias = network.optional(operator, 3)
    if bias is not None:
        inputs.append(_add_bias(network, operator, bias, image, weight, axis_of_scale))
    _finish(
        network,
        operator,
        "ConvTranspose",
        inputs,
        kernel_shape=list(weight.shape[1:3]),
        strides=strides,
        pads=[pads[0][0], pads[1][0], pads[0][1], pads[1][1]],
        output_padding=outside,
    )


def read_pool(network: Network, operator: Operator) -> None:
    """MAX_POOL_2D and AVERAGE_POOL_2D; a mean counts no padding."""
    image = _image(network, operator, 0)
    kernel = [network.option(operator, f"Filter{side}") for side in ("Height", "Width")]
    if min(kernel) < 1:
        network.refuse(operator, f"its window is {kernel}")
    op = "MaxPool" if operator.code == "MAX_POOL_2D" else "AveragePool"
    strides = _pair(network, operator, "Stride")
    padding = _padding(network, operator, image, kernel, strides, [1, 1])
    _finish(
        network,
        operator,
        op,
        [network.get(image, Layout.IMAGE)],
        kernel_shape=kernel,
        strides=strides,
        **padding,
    )


def read_fully_connected(network: Network, operator: Operator) -> None:
    """FULLY_CONNECTED: weights ``[out, in]``; the input is a matrix of rows of ``in`` elements."""
    if network.option(operator, "WeightsFormat"):
        network.refuse(operator, "its weights are shuffled, which is not supported")
    x, y = network.tensor(operator, 0), network.output(operator)
    weight = _weight(network, operator, 1, 2)
    depth = weight.shape[1]
    source = network.flattened_image(x, depth)
    order: npt.NDArray[np.int64] | None = None
    if source is not None:
        _, height, width, channels = source.shape
        order = np.arange(depth).reshape(height, width, channels).transpose(2, 0, 1).reshape(-1)
        rows = network.add(
            "Flatten", [network.get(source, Layout.IMAGE)], network.new_name(f"{x.name}:rows")
        )
        network.copy_record(x, rows)
    else:
        rows = network.get(x)
    keeps = len(x.shape) > 2 and len(y.shape) == len(x.shape)
    if source is None and len(x.shape) != 2 and not keeps:
        shape = network.add_constant(f"{x.name}:shape", np.array([-1, depth], np.int64))
        rows = network.add("Reshape", [rows, shape], network.new_name(f"{x.name}:rows"))
        network.copy_record(x, rows)
    bias = network.optional(operator, 2)
    if not keeps:
        name, per_channel = _add_matrix(network, weight, order, transposed=False)
        inputs = [rows, name]
        if bias is not None:
            inputs.append(_add_bias(network, operator, bias, x, weight, per_channel))
        _finish(network, operator, "Gemm", inputs, layout=Layout.FILE, transB=1)
        return
    # A matrix product of many rows keeps its dimensions, and a bias of its own.
    name, per_channel = _add_matrix(network, weight, order, transposed=True)
    if bias is None:
        _finish(network, operator, "MatMul", [rows, name], layout=Layout.FILE)
        return
    shape = network.add_constant(f"{x.name}:shape", np.array([-1, depth], np.int64))
    flat = network.add("Reshape", [rows, shape], network.new_name(f"{x.name}:rows"))
    network.copy_record(x, flat)
    product = network.new_name(f"{y.name}:rows")
    name, per_channel = _add_matrix(network, weight, order, transposed=False)
    added = _add_bias(network, operator, bias, x, weight, per_channel)
    network.add("Gemm", [flat, name, added], product, transB=1)
    network.copy_record(y, product)
    product = activate(network, operator, product, y)
    whole = [size if size is not None else -1 for size in y.signature]
    target = network.add_constant(f"{y.name}:shape", np.array(whole, np.int64))
    network.add("Reshape", [product, target], network.give(y))


def read_batch_matmul(network: Network, operator: Operator) -> None:
    """BATCH_MATMUL, with operands transposed where its options say so."""
    names = []
    for index, option in ((0, "AdjX"), (1, "AdjY")):
        tensor = network.tensor(operator, index)
        adjoint = bool(network.option(operator, option))
        rank = len(tensor.shape)
        if rank < 2:
            network.refuse(operator, f"its input {index} has {rank} dimensions")
        if index == 1 and rank == 2 and network.is_constant(tensor):
            array = tensor
            name, _ = _add_matrix(network, array, None, transposed=adjoint)
            names.append(name)
            continue
        name = network.get(tensor)
        if adjoint:
            order = [*range(rank - 2), rank - 1, rank - 2]
            name = network.add(
                "Transpose", [name], network.new_name(f"{tensor.name}:adjoint"), perm=order
            )
            network.copy_record(tensor, name)
        names.append(name)
    network.add("MatMul", names, network.give(network.output(operator)))


def activate(
    network: Network, operator: Operator, linear: str, tensor: Tensor, final: str | None = None
) -> str:
    """Adds the activation that is fused into ``operator`` behind ``linear``; returns the name of the result."""
    kind = network.option(operator, "FusedActivationFunction")
    if not kind:
        return linear
    if kind not in ACTIVATIONS:
        network.refuse(operator, f"its fused activation, number {kind}, is not supported")
    op, bounds = ACTIVATIONS[kind]
    name = final or network.new_name(f"{tensor.name}:active")
    inputs = [linear]
    if bounds is not None:
        inputs += [
            network.add_constant(f"{tensor.name}:{end}", np.array(bound, np.float32))
            for end, bound in zip(("low", "high"), bounds, strict=True)
        ]
    network.records.pop(linear, None)
    network.add(op, inputs, name, node=f"{name}:activation")
    network.copy_record(tensor, name)
    return name


def _finish(
    network: Network,
    operator: Operator,
    op: str,
    inputs: Sequence[str],
    *,
    layout: Layout = Layout.IMAGE,
    **attributes: Any,
) -> None:
    """Adds the node of ``operator`` and the activation fused into it."""
    y = network.output(operator)
    name = network.give(y, layout)
    if not network.option(operator, "FusedActivationFunction"):
        network.add(op, inputs, name, **attributes)
        return
    linear = network.new_name(f"{name}:linear")
    network.add(op, inputs, linear, node=name, **attributes)
    activate(network, operator, linear, y, name)


def _convolve(
    network: Network,
    operator: Operator,
    weight: Tensor,
    order: tuple[int, ...],
    channel: int,
    group: int,
) -> None:
    image = _image(network, operator, 0)
    kernel = list(weight.shape[1:3])
    strides = _pair(network, operator, "Stride")
    dilations = [
        max(network.option(operator, f"Dilation{side}Factor", 1), 1) for side in ("H", "W")
    ]
    padding = _padding(network, operator, image, kernel, strides, dilations)
    name, per_channel = _add_weight(network, weight, order, channel)
    inputs = [network.get(image, Layout.IMAGE), name]
    bias = network.optional(operator, 2)
    if bias is not None:
        inputs.append(_add_bias(network, operator, bias, image, weight, per_channel))
    _finish(
        network,
        operator,
        "Conv",
        inputs,
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        group=group,
        **padding,
    )


def _padding(
    network: Network,
    operator: Operator,
    image: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> dict[str, Any]:
    """Returns the attribute that pads: numbers where the size of the image is known."""
    kind = network.option(operator, "Padding")
    if kind == _VALID:
        for size, taps, dilation in zip(image.signature[1:3], kernel, dilations, strict=True):
            if size is not None and (taps - 1) * dilation >= size:
                network.refuse(operator, f"its window {kernel} is larger than its input")
        return {"pads": [0, 0, 0, 0]}
    if kind != _SAME:
        network.refuse(operator, f"its padding, number {kind}, is not supported")
    if None in image.signature[1:3]:
        return {"auto_pad": "SAME_UPPER"}
    pads = []
    for size, taps, stride, dilation in zip(
        image.shape[1:3], kernel, strides, dilations, strict=True
    ):
        count = -(-size // stride)
        whole = max((count - 1) * stride + (taps - 1) * dilation + 1 - size, 0)
        pads.append((whole // 2, whole - whole // 2))
    return {"pads": [pads[0][0], pads[1][0], pads[0][1], pads[1][1]]}


def _image(network: Network, operator: Operator, index: int) -> Tensor:
    tensor = network.tensor(operator, index)
    if len(tensor.shape) != 4:
        network.refuse(operator, f"its input has {len(tensor.shape)} dimensions, not 4")
    return tensor


def _pair(network: Network, operator: Operator, name: str) -> list[int]:
    found = [network.option(operator, f"{name}{side}") for side in ("H", "W")]
    if min(found) < 1:
        network.refuse(operator, f"it has the strides {found}")
    return found


def _constant_shape(network: Network, operator: Operator, index: int) -> list[int]:
    shape = network.integers(operator, index)
    if len(shape) != 4:
        network.refuse(operator, f"its output's shape {shape} has no 4 dimensions")
    return shape


def _weight(network: Network, operator: Operator, index: int, rank: int) -> Tensor:
    """Returns the weights of a layer."""
    tensor = network.tensor(operator, index)
    if not network.is_constant(tensor):
        network.refuse(operator, "its weights are computed")
    if len(tensor.shape) != rank:
        network.refuse(operator, f"its weights have {len(tensor.shape)} dimensions, not {rank}")
    if 0 in tensor.shape:
        network.refuse(operator, f"its weights are empty, of shape {list(tensor.shape)}")
    return tensor


def _add_weight(
    network: Network, weight: Tensor, order: tuple[int, ...], channel: int
) -> tuple[str, npt.NDArray[np.float32] | None]:
    """Adds weights with their dimensions in ``order``; returns their name and their scales, if they have codes."""
    array = network.elements(weight)
    assert array is not None
    reals = np.ascontiguousarray(network.reals(weight).astype(np.float32).transpose(order))
    name = network.add_constant(weight.name or f"weight_{weight.index}", reals)
    record = _record(network, weight, channel, order)
    if weight.grid is not None:
        network.records[name] = record
    return name, None if record is None else record.scale


def _add_matrix(
    network: Network,
    weight: Tensor,
    order: npt.NDArray[np.int64] | None,
    *,
    transposed: bool,
) -> tuple[str, npt.NDArray[np.float32] | None]:
    """Adds a matrix of weights, its columns in ``order``; returns its name and its scales, if it has codes."""
    reals = network.reals(weight).astype(np.float32)
    record = _record(network, weight, 0, (0, 1))
    codes = None if record is None else record.codes
    if order is not None:
        reals = reals[:, order]
        codes = None if codes is None else codes[:, order]
    if transposed:
        reals = reals.T
        codes = None if codes is None else codes.T
    name = network.add_constant(weight.name or f"weight_{weight.index}", reals)
    if record is None or codes is None:
        if weight.grid is not None:
            network.records[name] = None
        return name, None
    network.records[name] = WeightQuantization(
        np.ascontiguousarray(codes, np.int8), record.scale, 1 if transposed else 0
    )
    return name, record.scale


def _record(
    network: Network, weight: Tensor, channel: int, order: tuple[int, ...]
) -> WeightQuantization | None:
    """Returns the weights as codes around 0 with a scale for each output channel; None where they have none such."""
    grid = weight.grid
    if grid is None or weight.data is None or (grid.scale.size > 1 and grid.axis != channel):
        return None
    sizes = [1] * len(weight.shape)
    if grid.zero_point.size > 1:
        sizes[grid.axis] = -1
    codes = weight.data.astype(np.int64) - grid.zero_point.reshape(sizes)
    if np.abs(codes).max(initial=0) > _WEIGHT_LIMIT:
        return None
    scale = np.broadcast_to(grid.scale, (weight.shape[channel],)).astype(np.float32)
    return WeightQuantization(
        np.ascontiguousarray(codes.transpose(order), np.int8), scale, order.index(channel)
    )


def _add_bias(
    network: Network,
    operator: Operator,
    bias: Tensor,
    x: Tensor,
    weight: Tensor,
    scales: npt.NDArray[np.float32] | None,
) -> str:
    """Adds the bias of a layer; its codes are those of sums, whose scale the file repeats or leaves out."""
    if not network.is_constant(bias):
        network.refuse(operator, "its bias is computed")
    array = network.elements(bias)
    assert array is not None
    label = bias.name or f"bias_{bias.index}"
    record = network.grid(x)
    if bias.type not in _SUMS:
        return network.add_constant(label, network.reals(bias).astype(np.float32).reshape(-1))
    source = x.grid
    if source is None or weight.grid is None:
        network.refuse(operator, "its bias has codes, but its input or its weights have none")
    scale = np.float32(source.scale[0]) * (weight.grid.scale if scales is None else scales)
    reals = (array.reshape(-1).astype(np.float64) * scale).astype(np.float32)
    if record is None or scales is None:
        return network.add_constant(label, reals)
    codes = WeightQuantization(array.reshape(-1).astype(np.int32), scale.astype(np.float32), 0)
    return network.add_constant(label, reals, codes)
