"""Lowers a quantized graph, node by node, to the integer program of the native form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgekit.converters.lower import (
    elementwise,
    float_activations,
    float_elementwise,
    float_layers,
    float_norms,
    float_recurrent,
    float_windows,
    linear,
    movement,
    plain,
    pooling,
    reductions,
    resizing,
)
from edgekit.converters.lower.code_parts import lower_parts
from edgekit.converters.lower.fuse_floats import fuse_floats
from edgekit.converters.lower.fuse_residual import fuse_residual_sums
from edgekit.converters.lower.fuse_resizes import fuse_resizes
from edgekit.converters.lower.fuse_tables import fuse_tables
from edgekit.converters.lower.fuse_transposes import fuse_transposes
from edgekit.converters.lower.skip_floats import skip_floats
from edgekit.converters.lower.state import Lowering, refuse
from edgekit.converters.lower.wide_layers import lower_wide
from edgekit.converters.program import Dequantize, DType, Program, Reshape, Tensor
from edgekit.converters.quantization import (
    get_part_grids,
    get_quantization,
    get_wide_steps,
    stays_float,
)
from edgekit.converters.regions import find_regions
from edgekit.converters.select_branches import CONTROL, explain_control
from edgekit.targets.errors import ModelError

_HANDLERS: dict[str, Callable[[Lowering, ir.Node], None]] = {
    **dict.fromkeys(elementwise.ELEMENTWISE_OPERATORS, elementwise.lower_binary),
    "PRelu": elementwise.lower_prelu,
    "AveragePool": pooling.lower_average_pool,
    "Concat": movement.lower_concat,
    "Conv": linear.lower_conv,
    "ConvTranspose": linear.lower_conv_transpose,
    "DepthToSpace": movement.lower_depth_to_space,
    "Dropout": movement.lower_identity,
    "Expand": plain.lower_expand,
    "Flatten": movement.lower_reshape,
    "Gather": plain.lower_gather,
    "Gemm": linear.lower_gemm,
    "GlobalAveragePool": pooling.lower_global_average_pool,
    "GlobalMaxPool": reductions.lower_global_max_pool,
    "Identity": movement.lower_identity,
    "MatMul": linear.lower_matmul,
    "MaxPool": pooling.lower_max_pool,
    "Pad": movement.lower_pad,
    **dict.fromkeys(reductions.REDUCTIONS, reductions.lower_reduce),
    "Reshape": movement.lower_reshape,
    "Resize": resizing.lower_resize,
    "Slice": movement.lower_slice,
    "Softmax": elementwise.lower_softmax,
    "SpaceToDepth": movement.lower_space_to_depth,
    "Split": movement.lower_split,
    "Squeeze": movement.lower_reshape,
    "Tile": plain.lower_tile,
    "Transpose": movement.lower_transpose,
    "Unsqueeze": movement.lower_reshape,
}


# The same for nodes that compute in float32; what only moves elements serves both.
_FLOAT_HANDLERS: dict[str, Callable[[Lowering, ir.Node], None]] = {
    **dict.fromkeys(float_activations.ACTIVATIONS, float_activations.lower_activation),
    **dict.fromkeys(float_elementwise.UNARY, float_elementwise.lower_unary),
    **dict.fromkeys(plain.BINARY, plain.lower_binary),
    **dict.fromkeys(plain.COMPARISONS, plain.lower_compare),
    "ArgMax": plain.lower_arg_extreme,
    "ArgMin": plain.lower_arg_extreme,
    "Cast": plain.lower_cast,
    "DepthToSpace": movement.lower_depth_to_space,
    "Expand": plain.lower_expand,
    "Gather": plain.lower_gather,
    "InstanceNormalization": float_norms.lower_instance_norm,
    "LRN": float_norms.lower_lrn,
    "Not": plain.lower_not,
    "OneHot": plain.lower_one_hot,
    "Shape": plain.lower_shape,
    "Size": plain.lower_shape,
    "SpaceToDepth": movement.lower_space_to_depth,
    "Tile": plain.lower_tile,
    "Where": plain.lower_where,
    **dict.fromkeys(float_recurrent.RECURRENT, float_recurrent.lower_recurrent),
    **dict.fromkeys(float_windows.REDUCTIONS, float_windows.lower_reduce),
    "AveragePool": float_windows.lower_pool,
    "Concat": movement.lower_concat,
    "Conv": float_layers.lower_conv,
    "ConvTranspose": float_layers.lower_conv_transpose,
    "Dropout": movement.lower_identity,
    "Flatten": movement.lower_reshape,
    "Gemm": float_layers.lower_gemm,
    "GlobalAveragePool": float_windows.lower_global_pool,
    "GlobalMaxPool": float_windows.lower_global_pool,
    "Identity": movement.lower_identity,
    "LayerNormalization": float_elementwise.lower_layer_norm,
    "MatMul": float_layers.lower_matmul,
    "MaxPool": float_windows.lower_pool,
    "Pad": movement.lower_pad,
    "Pow": float_elementwise.lower_pow,
    "Reshape": movement.lower_reshape,
    "Resize": resizing.lower_resize,
    "Slice": movement.lower_slice,
    "Softmax": float_elementwise.lower_softmax,
    "Split": movement.lower_split,
    "Squeeze": movement.lower_reshape,
    "Transpose": movement.lower_transpose,
    "Unsqueeze": movement.lower_reshape,
}


_INPUT_TYPES = {
    ir.DataType.FLOAT: DType.FLOAT32,
    ir.DataType.INT32: DType.INT32,
    ir.DataType.INT64: DType.INT64,
    ir.DataType.UINT8: DType.UINT8,
    ir.DataType.BOOL: DType.BOOL,
}


def lower(model: ir.Model, batch: int = 1, *, fuse: bool = True) -> Program:
    """Lowers a quantized graph to a program for a fixed batch, with float32 operators where nodes stay float.

    Args:
        model: Float operators whose values carry the records of ``edgekit.converters.quantization``.
        batch: What an open first dimension of the model's inputs becomes.
        fuse: Whether sums and tables run inside the layer before them, and resizes inside what joins them. The codes
            are the same either way; without it every node's own output can be seen.

    Raises:
        ModelError: The native form cannot hold a node or an input; names it, the reason, and the form that can.
    """
    refuse_control(model)
    lowering = Lowering()
    inputs = [_lower_input(lowering, value, batch) for value in model.graph.inputs]
    regions = find_regions(
        [node for node in model.graph if not stays_float(node)],
        lambda value: get_quantization(value) is not None,
    )
    inside = {node for region in regions.values() for node in region.nodes}
    for node in model.graph:
        lowering.computes = DType.FLOAT32 if stays_float(node) else DType.CODE
        if node in lowering.done:
            continue
        if node in inside:
            if node in regions:
                elementwise.lower_region(lowering, regions[node])
            continue
        if node.op_type == "Constant" and node.domain == "":
            continue
        handlers = _FLOAT_HANDLERS if stays_float(node) else _HANDLERS
        handler = handlers.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if handler is None:
            domain = f" of {node.domain}" if node.domain else ""
            kind = " float32" if stays_float(node) else ""
            refuse(node, f"edgekit's runtime has no{kind} operator {node.op_type}{domain}")
        steps, grids = get_wide_steps(node), get_part_grids(node)
        if steps is not None:
            lower_wide(lowering, node, steps)
        elif grids is not None:
            lower_parts(lowering, node, grids)
        else:
            handler(lowering, node)
    outputs = [_lower_output(lowering, value) for value in model.graph.outputs]
    lowering.forget_unread_constants()
    program = Program(
        lowering.tensors, tuple(inputs), tuple(outputs), tuple(lowering.ops), lowering.constants
    )
    if not fuse:
        return program
    program = fuse_transposes(fuse_resizes(fuse_tables(fuse_residual_sums(program))))
    return fuse_floats(skip_floats(program))


def refuse_control(model: ir.Model) -> None:
    """Refuses a graph with a node whose subgraphs run when the network does.

    Raises:
        ModelError: Names the node, what decides, and what to do.
    """
    for node in model.graph:
        if node.op_type in CONTROL:
            refuse(node, explain_control(node))


def _lower_input(lowering: Lowering, value: ir.Value, batch: int) -> str:
    """Adds a model's input; returns its name."""
    name = value.name or ""
    dtype = None if value.dtype is None else _INPUT_TYPES.get(value.dtype)
    if dtype is None:
        held = ", ".join(each.value for each in _INPUT_TYPES.values())
        raise ModelError(f"input {name!r} is {value.dtype}; the native form takes {held}")
    shape = _static_shape(value, batch)
    lowering.bind(value, lowering.new_tensor(Tensor(name, shape, dtype)))
    return name


def _lower_output(lowering: Lowering, value: ir.Value) -> str:
    """Adds a model's output and what brings its elements there; returns its name."""
    name = value.name or ""
    source = lowering.bound(value) or _lower_constant_output(lowering, value)
    plain = source.dtype is not DType.CODE
    if plain:
        source = lowering.source_order(source)
    dtype = source.dtype if plain else DType.FLOAT32
    output = lowering.new_tensor(Tensor(name, source.source_shape, dtype))
    if plain:
        op_name = lowering.unique_name(f"{name}:output")
        lowering.emit(Reshape(name=op_name, input=source.name, output=output.name))
    else:
        op_name = lowering.unique_name(f"{name}:dequantize")
        lowering.emit(Dequantize(name=op_name, input=source.name, output=output.name))
    return output.name


def _lower_constant_output(lowering: Lowering, value: ir.Value) -> Tensor:
    """Adds the elements of a model's output that depends on no input."""
    array = None if value.const_value is None else np.asarray(value.const_value.numpy())
    dtype = None if array is None else DType.of_numpy(array.dtype)
    if array is None or dtype is None or array.size == 0:
        what = "made by no operator" if array is None else f"{array.dtype} {list(array.shape)}"
        raise ModelError(f"output {value.name!r} is {what}, which the native form cannot return")
    tensor = lowering.new_tensor(Tensor(f"{value.name}:constant", array.shape, dtype))
    lowering.constants[tensor.name] = array
    return tensor


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
