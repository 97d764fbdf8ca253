"""Lowers a quantized graph, node by node, to the integer program of the native form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgekit.converters.lower import elementwise, linear, movement, pooling, resizing
from edgekit.converters.lower.fuse_residual import fuse_residual_sums
from edgekit.converters.lower.fuse_tables import fuse_tables
from edgekit.converters.lower.state import Lowering, refuse
from edgekit.converters.program import Dequantize, DType, Program, Quantize, Tensor, codes_name
from edgekit.converters.quantization import ActivationQuantization, get_quantization
from edgekit.converters.regions import find_regions
from edgekit.targets.errors import ModelError

_HANDLERS: dict[str, Callable[[Lowering, ir.Node], None]] = {
    **dict.fromkeys(elementwise.ELEMENTWISE_OPERATORS, elementwise.lower_binary),
    "AveragePool": pooling.lower_average_pool,
    "Concat": movement.lower_concat,
    "Conv": linear.lower_conv,
    "ConvTranspose": linear.lower_conv_transpose,
    "Dropout": movement.lower_identity,
    "Flatten": movement.lower_reshape,
    "Gemm": linear.lower_gemm,
    "GlobalAveragePool": pooling.lower_global_average_pool,
    "GlobalMaxPool": pooling.lower_global_max_pool,
    "Identity": movement.lower_identity,
    "MatMul": linear.lower_matmul,
    "MaxPool": pooling.lower_max_pool,
    "Pad": movement.lower_pad,
    "Reshape": movement.lower_reshape,
    "Resize": resizing.lower_resize,
    "Slice": movement.lower_slice,
    "Softmax": elementwise.lower_softmax,
    "Split": movement.lower_split,
    "Squeeze": movement.lower_reshape,
    "Transpose": movement.lower_transpose,
    "Unsqueeze": movement.lower_reshape,
}


def lower(model: ir.Model, batch: int = 1, *, fuse: bool = True) -> Program:
    """Lowers a quantized graph to an integer program for a fixed batch.

    Args:
        model: Float operators whose values carry the records of ``edgekit.converters.quantization``.
        batch: What an open first dimension of the model's inputs becomes.
        fuse: Whether sums and tables run inside the layer before them. The codes are the same either way; without it
            every node's own output can be seen.

    Raises:
        ModelError: The native form cannot hold a node or an input; names it, the reason, and the form that can.
    """
    lowering = Lowering()
    inputs = [_lower_input(lowering, value, batch) for value in model.graph.inputs]
    regions = find_regions(model.graph, lambda value: get_quantization(value) is not None)
    inside = {node for region in regions.values() for node in region.nodes}
    for node in model.graph:
        if node in inside:
            if node in regions:
                elementwise.lower_region(lowering, regions[node])
            continue
        if node.op_type == "Constant" and node.domain == "":
            continue
        handler = _HANDLERS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if handler is None:
            domain = f" of {node.domain}" if node.domain else ""
            refuse(node, f"edgekit's runtime has no operator {node.op_type}{domain}")
        handler(lowering, node)
    outputs = [_lower_output(lowering, value) for value in model.graph.outputs]
    lowering.forget_unread_constants()
    program = Program(
        lowering.tensors, tuple(inputs), tuple(outputs), tuple(lowering.ops), lowering.constants
    )
    return fuse_tables(fuse_residual_sums(program)) if fuse else program


def _lower_input(lowering: Lowering, value: ir.Value, batch: int) -> str:
    """Adds a model's input and its quantization; returns its name."""
    name = value.name or ""
    record = get_quantization(value)
    if value.dtype != ir.DataType.FLOAT:
        raise ModelError(
            f"input {name!r} is {value.dtype}, and the native form takes float32 alone"
        )
    if not isinstance(record, ActivationQuantization):
        raise ModelError(
            f"input {name!r} stays float32, and the native form computes in int8 alone: "
            "deploy it with format onnx to keep the layers behind it in float"
        )
    shape = _static_shape(value, batch)
    lowering.new_tensor(Tensor(name, shape, DType.FLOAT32))
    image = len(shape) == 4
    codes = lowering.new_tensor(
        Tensor(
            codes_name(name),
            (shape[0], shape[2], shape[3], shape[1]) if image else shape,
            scale=np.float32(record.scale),
            zero_point=record.zero_point,
            channels_last=image,
        )
    )
    lowering.emit(
        Quantize(name=lowering.unique_name(f"{name}:quantize"), input=name, output=codes.name)
    )
    lowering.bind(value, codes)
    return name


def _lower_output(lowering: Lowering, value: ir.Value) -> str:
    """Adds the dequantization of a model's output; returns its name."""
    name = value.name or ""
    codes = lowering.bound(value)
    if codes is None:
        raise ModelError(
            f"output {name!r} is a constant, which the native form cannot return: remove it"
        )
    output = lowering.new_tensor(Tensor(name, codes.source_shape, DType.FLOAT32))
    lowering.emit(
        Dequantize(
            name=lowering.unique_name(f"{name}:dequantize"), input=codes.name, output=output.name
        )
    )
    return output.name


def _static_shape(value: ir.Value, batch: int) -> tuple[int, ...]:
    """Returns the shape of a model's input with its first dimension bound."""
    if value.shape is None:
        raise ModelError(f"input {value.name!r} has no shape; the native form needs one")
    shape = []
    for axis, size in enumerate(value.shape):
        if isinstance(size, int):
            if axis == 0 and batch != 1 and size != batch:
                raise ModelError(
                    f"input {value.name!r} has a first dimension of {size}, not the batch {batch} that was asked for"
                )
            shape.append(size)
        elif axis == 0:
            shape.append(batch)
        else:
            raise ModelError(
                f"dimension {axis} of input {value.name!r} is open ({size}); "
                f'the native form needs fixed sizes: give all with shapes={{"{value.name}": (...)}} or '
                f"--shape {value.name}=..."
            )
    if min(shape, default=1) < 1:
        raise ModelError(f"input {value.name!r} has the empty shape {shape}")
    return tuple(shape)
