"""Says which nodes int8 can hold, and which of their inputs carry codes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgekit.converters.passes.fuse_clamps import get_clamp
from edgekit.converters.passes.rewrite import attribute, constant
from edgekit.converters.quantization import ActivationQuantization
from edgekit.converters.tables import UNARY_OPERATORS

# Results that lie in a known interval have a known grid: [0, 1) in 1/256 and [-1, 1) in 1/128.
_UNSIGNED_UNIT = ActivationQuantization(np.float32(1 / 256), -128)
_SIGNED_UNIT = ActivationQuantization(np.float32(1 / 128), 0)
FIXED = {
    "Sigmoid": _UNSIGNED_UNIT,
    "HardSigmoid": _UNSIGNED_UNIT,
    "Softmax": _UNSIGNED_UNIT,
    "Tanh": _SIGNED_UNIT,
    "Erf": _SIGNED_UNIT,
}
# The same for both where the zero point has to be 0: 127/128 is the largest value.
SYMMETRIC_UNIT = _SIGNED_UNIT
# Operators that only change where elements lie.
ARRANGES = frozenset(
    {
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Pad",
        "Reshape",
        "Resize",
        "Slice",
        "SpaceToDepth",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
# Operators that move codes: the result has its first input's grid. Some pick the elements by their size.
MOVES = ARRANGES | {"GlobalMaxPool", "MaxPool", "ReduceMax", "ReduceMin"}
LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# Layers that also multiply float32 rows whose codes are made at run time.
DYNAMIC = frozenset({"Gemm", "MatMul"})
# Layers with a state, which stays float32: int8 are their weights alone.
RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
BINARY = frozenset({"Add", "Max", "Min", "Mul", "Sub"})
# One input, and a result with a grid of its own.
_UNARY = UNARY_OPERATORS | {"AveragePool", "GlobalAveragePool", "ReduceMean", "Softmax"}
_KNOWN = MOVES | LAYERS | BINARY | _UNARY | {"Concat", "PRelu"}
CLAMPABLE = _KNOWN - MOVES - FIXED.keys() - {"Concat"}


def obstacle(node: ir.Node) -> str | None:
    """Returns why ``node``, which is in no region (``find_regions``), cannot be int8, or None where it can."""
    if node.domain:
        return f"operators of {node.domain} are not quantized"
    if node.op_type not in _KNOWN:
        return f"there is no int8 {node.op_type}"
    if node.outputs[0].dtype != ir.DataType.FLOAT:
        return "it does not compute float32"
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return "its second output is used"
    sources = activations(node)
    if any(value is None or value.dtype != ir.DataType.FLOAT for value in sources):
        return "it does not compute on float32"
    arrays = [constant(value) for value in sources]
    if any(array is not None and not np.isfinite(array).all() for array in arrays):
        return "a constant of it is not finite"
    constants = [array is not None for array in arrays]
    if all(constants) or (any(constants) and node.op_type not in BINARY):
        return "it computes on constants"
    if is_layer(node):
        return _layer_obstacle(node)
    if is_product(node):
        return _product_obstacle(node)
    if node.op_type == "Clip" and any(
        v is not None and constant(v) is None for v in node.inputs[1:]
    ):
        return "its bounds are computed"
    if node.op_type == "PRelu" and constant(node.inputs[1]) is None:
        return "its slope is computed"
    if node.op_type == "Pad":
        return _pad_obstacle(node)
    if node.op_type == "Resize":
        return _resize_obstacle(node)
    return None


def can_be_dynamic(node: ir.Node) -> bool:
    """Returns whether ``node`` can multiply float32 rows with int8 weights, their codes made at run time."""
    return node.op_type in DYNAMIC and is_layer(node) and obstacle(node) is None


def is_product(node: ir.Node) -> bool:
    """Returns whether ``node`` multiplies two computed tensors."""
    return node.op_type == "MatMul" and constant(node.inputs[1]) is None


def is_depthwise(node: ir.Node) -> bool:
    """Returns whether each output channel of ``node`` reads one channel, whose products runtimes add in 32 bits."""
    weight = node.inputs[1] if node.op_type == "Conv" else None
    shape = None if weight is None else weight.shape
    return shape is not None and attribute(node, "group", 1) > 1 and shape[1] == 1


def is_layer(node: ir.Node) -> bool:
    """Returns whether ``node`` is an operator with weights."""
    return node.op_type in LAYERS and not is_product(node)


def has_recurrent_codes(node: ir.Node) -> bool:
    """Returns whether ``node`` is recurrent and its weights, W and R, can be int8."""
    if node.op_type not in RECURRENT or node.domain:
        return False
    arrays = [constant(value) for value in node.inputs[1:3]]
    return all(
        array is not None
        and array.dtype == np.float32
        and array.ndim == 3
        and array.size > 0
        and bool(np.isfinite(array).all())
        for array in arrays
    )


def _resize_obstacle(node: ir.Node) -> str | None:
    source = node.inputs[0]
    if source is None or source.shape is None or source.shape.rank() != 4:
        return "it does not resize an image"
    mode = _text(node, "mode", "nearest")
    if mode not in ("nearest", "linear"):
        return f"there is no int8 Resize in mode {mode}"
    if attribute(node, "antialias", 0):
        return "it filters against aliasing"
    if _text(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return "it crops"
    return None


def _text(node: ir.Node, name: str, default: str) -> str:
    found = node.attributes.get(name)
    return default if found is None else found.as_string()


def _layer_obstacle(node: ir.Node) -> str | None:
    weight = constant(node.inputs[1])
    bias_value = node.inputs[2] if len(node.inputs) > 2 else None
    bias = constant(bias_value)
    if weight is None or (bias_value is not None and bias is None):
        return "its weights or bias are computed"
    if weight.dtype != np.float32 or (bias is not None and bias.dtype != np.float32):
        return "its weights or bias are not float32"
    if node.op_type == "ConvTranspose" and attribute(node, "group", 1) != 1:
        return "it has groups"
    if node.op_type == "MatMul" and weight.ndim != 2:
        return f"its weights have rank {weight.ndim}"
    if node.op_type == "Gemm":
        factors = [node.attributes.get(name) for name in ("alpha", "beta")]
        if any(a is not None and a.as_float() != 1.0 for a in factors) or attribute(
            node, "transA", 0
        ):
            return "it has alpha, beta or transA"
        if bias is not None and bias.size not in (1, weight.shape[output_axis(node)]):
            return "its bias has a row for each sample"
    return None


def _product_obstacle(node: ir.Node) -> str | None:
    """Returns what products of codes lack that those of float32 have: nothing, but for shapes that neither takes."""
    shapes = [None if value is None else value.shape for value in node.inputs]
    if any(shape is None or shape.rank() < 2 for shape in shapes):
        return "one of its operands is a vector, or has no known shape"
    return None


def _pad_obstacle(node: ir.Node) -> str | None:
    mode = _text(node, "mode", "constant")
    if mode in ("edge", "reflect"):
        return None
    if mode != "constant":
        return f"there is no int8 Pad in mode {mode}"
    fill = _pad_value(node)
    if fill is None:
        return "what it pads with is computed"
    source = node.inputs[0]
    assert source is not None
    clamp = get_clamp(source)
    if not clamp.lo <= fill <= clamp.hi:
        return f"it pads with {fill:g}, which its input's range excludes"
    return None


def _pad_value(node: ir.Node) -> float | None:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return 0.0
    array = constant(value)
    return None if array is None else float(np.asarray(array, np.float64).reshape(-1)[0])


def has_constant_operands(node: ir.Node) -> bool:
    """Returns whether constants that ``node`` computes on have grids as its other operands have."""
    return node.op_type in BINARY or node.op_type == "PRelu"


def activations(node: ir.Node) -> list[ir.Value | None]:
    """Returns the inputs of ``node`` that carry codes."""
    if node.op_type == "Concat":
        return list(node.inputs)
    return list(node.inputs[: 2 if node.op_type in BINARY or is_product(node) else 1])


def output_axis(node: ir.Node) -> int:
    """Returns the dimension of the weights with the output channels."""
    if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)):
        return 0
    return 1
