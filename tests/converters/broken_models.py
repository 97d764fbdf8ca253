"""Makes quantized ONNX models by hand, sound ones and ones with a fault."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_TYPES = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "int8": TensorProto.INT8}


class QdqModel:
    """Adds nodes in QDQ form; each method returns the name of the float value that it makes.

    With ``rounds=False`` values are only clipped where grids end: the float network that the file stands for.
    """

    def __init__(self, *, opset=18, activations=np.uint8, seed=0, rounds=True):
        self.rounds = rounds
        self.scales = {}
        self.rng = np.random.default_rng(seed)
        self.opset = opset
        self.activations = np.dtype(activations)
        self.nodes, self.tensors = [], {}
        self.inputs, self.outputs = [], []

    def input(self, shape, name="x", dtype="float32"):
        self.inputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], shape))
        return name

    def constant(self, name, array):
        self.tensors[name] = np.asarray(array)
        return name

    def node(self, op_type, inputs, name=None, **attributes):
        name = name or f"{op_type.lower()}_{len(self.nodes)}"
        output = f"{name}_out"
        self.nodes.append(helper.make_node(op_type, inputs, [output], name, **attributes))
        return output

    def quantized(self, source, low, high, dtype=None):
        """Puts ``source`` on the grid of [low, high]."""
        info = np.iinfo(dtype or self.activations)
        scale = np.float32((high - low) / 255)
        zero = int(np.clip(round(info.min - low / float(scale)), info.min, info.max))
        return self.on_grid(source, scale, zero, dtype)

    def on_grid(self, source, scale, zero, dtype=None):
        """Quantizes and dequantizes ``source``."""
        base = f"{source}_{len(self.nodes)}"
        if not self.rounds:
            info = np.iinfo(dtype or self.activations)
            ends = [np.float32((end - zero) * float(scale)) for end in (info.min, info.max)]
            bounds = [self.constant(f"{base}_{i}", end) for i, end in enumerate(ends)]
            result = self.node("Clip", [source, *bounds], f"{base}_clip")
            self.scales[result] = np.float32(scale)
            return result
        grid = [
            self.constant(f"{base}_scale", np.float32(scale)),
            self.constant(f"{base}_zero", np.array(zero, dtype or self.activations)),
        ]
        codes = self.node("QuantizeLinear", [source, *grid], f"{base}_q")
        result = self.node("DequantizeLinear", [codes, *grid], f"{base}_dq")
        self.scales[result] = np.float32(scale)
        return result

    def weight(self, name, real, *, axis=0, dtype=np.int8, per_channel=True, bits=8):
        """Holds weights in codes behind a DequantizeLinear; returns the value and its scales."""
        other = tuple(i for i in range(real.ndim) if i != axis)
        peak = np.abs(real).max(axis=other) if per_channel else np.abs(real).max()
        limit = 2 ** (bits - 1) - 1
        scale = np.maximum(peak / limit, 1e-6).astype(np.float32)
        shape = [1] * real.ndim
        if per_channel:
            shape[axis] = -1
        codes = np.clip(np.rint(real / scale.reshape(shape)), -limit, limit)
        zero = 128 if np.dtype(dtype) == np.uint8 else 0
        inputs = [
            self.constant(f"{name}_codes", (codes + zero).astype(dtype)),
            self.constant(f"{name}_scale", scale),
            self.constant(f"{name}_zero", np.full(scale.shape, zero, dtype)),
        ]
        attributes = {"axis": axis} if per_channel else {}
        return self.node("DequantizeLinear", inputs, f"{name}_dq", **attributes), scale

    def conv(self, source, channels, outputs, *, kernel=3, group=1, real=None, bias=True, **weight):
        """A convolution with padding that keeps the size; its bias has the scale input * weight where that is known."""
        name = f"conv_{len(self.nodes)}"
        if real is None:
            real = self.rng.normal(0, 0.3, (outputs, channels // group, kernel, kernel))
        value, scale = self.weight(f"{name}_w", real, **weight)
        inputs = [source, value]
        if bias:
            input_scale = self.scales.get(source, np.float32(0.01))
            scales = np.broadcast_to(np.asarray(input_scale * scale, np.float32), (outputs,))
            codes = np.rint(self.rng.normal(0, 0.2, outputs) / scales).astype(np.int32)
            held = [self.constant(f"{name}_b", codes), self.constant(f"{name}_bs", scales.copy())]
            inputs.append(self.node("DequantizeLinear", held, f"{name}_b_dq", axis=0))
        pad = kernel // 2
        return self.node(
            "Conv", inputs, name, kernel_shape=[kernel] * 2, pads=[pad] * 4, group=group
        )

    def proto(self, *outputs, dtype="float32", shape=None):
        infos = [helper.make_tensor_value_info(name, _TYPES[dtype], shape) for name in outputs]
        tensors = [numpy_helper.from_array(a, n) for n, a in self.tensors.items()]
        graph = helper.make_graph(self.nodes, "net", self.inputs, infos, tensors)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    def save(self, path, *outputs, **options) -> Path:
        onnx.save(self.proto(*outputs, **options), path)
        return path


def sound(model=None, **options):
    """Returns a small network without a fault, and its output."""
    model = model or QdqModel(**options)
    x = model.quantized(model.input([1, 8, 8, 8]), -2, 2)
    y = model.quantized(model.conv(x, 8, 8), 0, 4)
    z = model.quantized(model.conv(y, 8, 8, group=8), -3, 3)
    s = model.quantized(model.node("Add", [x, z]), -4, 4)
    p = model.quantized(model.node("GlobalAveragePool", [s]), -1, 1)
    return model, p


def clamped(op_type="Relu", low=-4.0):
    """A clamp whose QuantizeLinear reaches below it."""
    model = QdqModel()
    x = model.quantized(model.input([1, 8, 8, 8]), -2, 2)
    y = model.conv(x, 8, 8)
    bounds = []
    if op_type == "Clip":
        bounds = [model.constant("low", np.float32(0)), model.constant("high", np.float32(6))]
    y = model.quantized(model.node(op_type, [y, *bounds], "clamp"), low, 7)
    y = model.quantized(model.node("MaxPool", [y], kernel_shape=[2, 2], strides=[2, 2]), low, 7)
    return model, model.quantized(model.conv(y, 8, 8), -6, 6)


def mean(keepdims=1):
    """A mean over height and width in ReduceMean's words."""
    model = QdqModel()
    x = model.quantized(model.input([1, 8, 8, 8]), -2, 2)
    y = model.quantized(model.conv(x, 8, 8), 0, 4)
    axes = model.constant("axes", np.array([2, 3]))
    m = model.quantized(model.node("ReduceMean", [y, axes], "mean", keepdims=keepdims), 0, 1)
    if keepdims:
        m = model.quantized(model.node("Flatten", [m]), 0, 1)
    return model, m


def island():
    """Two operators without integer kernels, with conversions between them."""
    model = QdqModel()
    x = model.quantized(model.input([1, 8, 8, 8]), -2, 2)
    y = model.quantized(model.conv(x, 8, 8), -3, 3)
    t = model.quantized(model.node("Tanh", [y], "tanh"), -1, 1)
    s = model.quantized(model.node("Sin", [t], "sin"), -1, 1)
    return model, model.quantized(model.conv(s, 8, 8), -3, 3)


def transposed():
    """Channels last between two convolutions."""
    model = QdqModel()
    x = model.quantized(model.input([1, 8, 8, 8]), -2, 2)
    y = model.quantized(model.conv(x, 8, 8), -3, 3)
    t = model.quantized(model.node("Transpose", [y], "last", perm=[0, 2, 3, 1]), -3, 3)
    s = model.quantized(model.node("Sigmoid", [t]), 0, 1)
    u = model.quantized(model.node("Transpose", [s], "first", perm=[0, 3, 1, 2]), 0, 1)
    return model, model.quantized(model.conv(u, 8, 8), -3, 3)


def signed():
    """int8 activations, with a branch."""
    return sound(activations=np.int8)


def unsigned():
    """uint8 weights."""
    model = QdqModel()
    x = model.quantized(model.input([1, 8, 8, 8]), -2, 2)
    return model, model.quantized(model.conv(x, 8, 8, dtype=np.uint8), -3, 3)


def depthwise(keep_float=False):
    """Channels of very different size with one scale."""
    model = QdqModel()
    x = model.quantized(model.input([1, 8, 8, 8]), -2, 2)
    real = model.rng.normal(0, 1, (8, 1, 3, 3)) * np.geomspace(0.01, 1, 8).reshape(-1, 1, 1, 1)
    if not keep_float:
        y = model.conv(x, 8, 8, group=8, real=real, per_channel=False, bias=False)
        return model, model.quantized(y, -3, 3)
    value = model.constant("real", real.astype(np.float32))
    grid = [
        model.constant("w_scale", np.float32(np.abs(real).max() / 127)),
        model.constant("w_zero", np.int8(0)),
    ]
    codes = model.node("QuantizeLinear", [value, *grid], "w_q")
    weight = model.node("DequantizeLinear", [codes, *grid], "w_dq")
    y = model.node("Conv", [x, weight], "depthwise", group=8, pads=[1] * 4, kernel_shape=[3, 3])
    return model, model.quantized(y, -3, 3)


def detector(at_end=True):
    """Boxes of hundreds of pixels beside scores below one, in one scale."""
    model = QdqModel()
    x = model.quantized(model.input([1, 8, 8, 8]), -2, 2)
    large = model.rng.normal(0, 20, (4, 8, 1, 1))
    boxes = model.quantized(model.conv(x, 8, 4, kernel=1, real=large), -640, 640)
    scores = model.conv(x, 8, 4, kernel=1)
    scores = model.quantized(model.node("Sigmoid", [model.quantized(scores, -4, 4)]), 0, 1)
    joined = model.quantized(model.node("Concat", [boxes, scores], "join", axis=1), -640, 640)
    if at_end:
        return model, joined
    return model, model.quantized(model.conv(joined, 8, 8), -900, 900)


def conv_integer():
    """What dynamic quantization writes for a Conv with int8 weights."""
    model = QdqModel()
    x = model.input([1, 8, 8, 8])
    model.nodes.append(
        helper.make_node("DynamicQuantizeLinear", [x], ["xq", "xs", "xz"], "quantize")
    )
    model.constant("w", model.rng.integers(-127, 128, (4, 8, 3, 3)).astype(np.int8))
    model.constant("wz", np.int8(0))
    sums = model.node("ConvInteger", ["xq", "w", "xz", "wz"], "conv_quant")
    real = model.node("Cast", [sums], to=TensorProto.FLOAT)
    scale = model.node("Mul", ["xs", model.constant("ws", np.float32(0.003))])
    return model, model.node("Mul", [real, scale])


def overridable():
    """Every initializer an input too."""
    model, y = sound()
    for name, array in model.tensors.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        model.inputs.append(helper.make_tensor_value_info(name, kind, array.shape))
    return model, y


def shapeless():
    """A Reshape whose target is computed so that no inference follows it."""
    model = QdqModel()
    x = model.quantized(model.input([1, 8, 8, 8]), -2, 2)
    y = model.quantized(model.conv(x, 8, 8), -3, 3)
    sizes = model.constant("sizes", np.array([1, -1, 8], np.float32))
    target = model.node("Cast", [model.node("Round", [sizes])], to=TensorProto.INT64)
    places = model.node("NonZero", [target])
    flat = model.node("GatherND", [target, model.node("Transpose", [places])])
    return model, model.node("Reshape", [y, flat], "reshape")


def unloadable():
    """An operator that no runtime has."""
    model = QdqModel()
    x = model.quantized(model.input([1, 8, 8, 8]), -2, 2)
    y = model.quantized(model.conv(x, 8, 8), -3, 3)
    model.nodes.append(helper.make_node("Twist", [y], ["twisted"], "twist", domain="com.microsoft"))
    return model, "twisted"


def miscalibrated():
    """Ranges of pictures in [0, 255], for inputs in [0, 1]."""
    model = QdqModel()
    x = model.quantized(model.input([1, 8, 8, 8]), 0, 255)
    return model, model.quantized(model.conv(x, 8, 8), -3, 3)


def clipped():
    """Ranges of inputs in [0, 1], for inputs in [-2, 2]."""
    model = QdqModel()
    x = model.quantized(model.input([1, 8, 8, 8]), 0, 1)
    return model, model.quantized(model.conv(x, 8, 8), -3, 3)


def pruned():
    """A layer of which most is zero, half of the channels whole."""
    model = QdqModel()
    x = model.quantized(model.input([1, 16, 8, 8]), -2, 2)
    real = model.rng.normal(0, 0.3, (16, 16, 3, 3))
    real[::2] = 0
    real[model.rng.uniform(size=real.shape) < 0.3] = 0
    return model, model.quantized(model.conv(x, 16, 16, real=real), -3, 3)


def float_network():
    """A float network, as exporters write it."""
    model = QdqModel()
    source = model.input([1, 8, 8, 8])
    for _ in range(2):
        real = model.rng.normal(0, 0.3, (8, 8, 3, 3)).astype(np.float32)
        weight = model.constant(f"w{len(model.nodes)}", real)
        source = model.node("Conv", [source, weight], kernel_shape=[3, 3], pads=[1] * 4)
        source = model.node("Relu", [source])
    return model, model.node("GlobalAveragePool", [source])
