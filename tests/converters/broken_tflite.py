"""Makes TensorFlow Lite files by hand, sound ones and ones with a fault."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from tflite_file import TfliteFile

_VERSIONS = {
    "DEQUANTIZE": 3,
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "CONCATENATION": 2,
    "LOGISTIC": 2,
}


class TfliteModel:
    """Adds tensors and operators by their shapes alone; each method returns a tensor's index."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.file = TfliteFile()
        self.operators = self.file.graph.operators

    def tensor(self, shape, dtype="float32", data=None, grid=None, name=None, signature=None):
        if grid is not None:
            scale, zero, *axis = grid
            zeros = np.broadcast_to(zero, np.atleast_1d(scale).shape)
            grid = (scale, zeros, axis[0] if axis else 0)
        name = name or f"t{len(self.file.graph.tensors)}"
        kind = np.dtype(dtype).name
        return self.file.tensor(name, shape, kind, data=data, signature=signature, grid=grid)

    def input(self, shape, dtype="float32", grid=None, name="x", signature=None):
        index = self.tensor(shape, dtype, grid=grid, name=name, signature=signature)
        self.file.graph.inputs.append(index)
        return index

    def constant(self, array, grid=None):
        array = np.asarray(array)
        return self.tensor(array.shape, array.dtype, array, grid)

    def op(self, code, inputs, shape, dtype="float32", grid=None, options=None, custom=None):
        output = self.tensor(shape, dtype, grid=grid)
        version = _VERSIONS.get(code, 1)
        self.file.operator(code, inputs, [output], options, version=version, custom=custom)
        return output

    def conv(self, x, channels, outputs, size=6, **kinds):
        """A 1 x 1 convolution; float, or in codes where a grid is given."""
        options = schema.Conv2DOptionsT()
        options.strideH = options.strideW = 1
        options.padding = schema.Padding.VALID
        options.dilationHFactor = options.dilationWFactor = 1
        grid, weight = kinds.pop("grid", None), kinds.pop("weight", None)
        if weight is None:
            weight = self.weight((outputs, 1, 1, channels), coded=grid is not None)
        inputs = [x, weight, self.bias(outputs, coded=grid is not None)]
        dtype = "int8" if grid is not None else "float32"
        return self.op("CONV_2D", inputs, (1, size, size, outputs), dtype, grid, options)

    def bias(self, outputs, *, coded, scale=1e-4):
        if not coded:
            return self.constant(self.rng.normal(0, 0.1, outputs).astype(np.float32))
        return self.constant(np.zeros(outputs, np.int32), (np.full(outputs, scale), 0, 0))

    def weight(self, shape, *, coded):
        real = self.rng.normal(0, 0.5, shape).astype(np.float32)
        if not coded:
            return self.constant(real)
        codes = np.clip(np.rint(real / 0.01), -127, 127).astype(np.int8)
        return self.constant(codes, (np.full(shape[0], 0.01), 0, 0))

    def transpose(self, x, order, shape, **kinds):
        return self.op(
            "TRANSPOSE",
            [x, self.constant(np.array(order, np.int32))],
            shape,
            options=schema.TransposeOptionsT(),
            **kinds,
        )

    def finish(self, *outputs):
        return self.file.pack(*outputs)

    def save(self, path, *outputs):
        path.write_bytes(self.finish(*outputs))
        return path


INPUT = (0.02, -1)


def sound():
    """A float layer and its clamp in one."""
    model = TfliteModel()
    y = model.conv(model.input((1, 6, 6, 4)), 4, 8)
    model.operators[-1].builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.RELU
    return model, model.conv(y, 8, 3)


def quantized():
    """Two layers in codes."""
    model = TfliteModel()
    y = model.conv(model.input((1, 6, 6, 4), "int8", INPUT), 4, 8, grid=(0.03, 3))
    return model, model.conv(y, 8, 3, grid=(0.05, 0))


def half(only_part=False):
    """float16 weights behind DEQUANTIZE."""
    model = TfliteModel()
    x = model.input((1, 6, 6, 4))
    real = model.rng.normal(0, 0.5, (8, 1, 1, 4)).astype(np.float16)
    weight = model.op(
        "DEQUANTIZE", [model.constant(real)], (8, 1, 1, 4), options=schema.DequantizeOptionsT()
    )
    y = model.conv(x, 4, 8, weight=weight)
    z = model.op("ABS", [weight], (8, 1, 1, 4), options=schema.AbsOptionsT())
    return model, (y, z) if only_part else y


def transposed(residual=False):
    """Channels first between two convolutions."""
    model = TfliteModel()
    x = model.input((1, 6, 6, 4))
    y = model.transpose(model.conv(x, 4, 8), (0, 3, 1, 2), (1, 8, 6, 6))
    z = model.op("LOGISTIC", [y], (1, 8, 6, 6))
    if residual:
        other = model.transpose(model.conv(x, 4, 8), (0, 3, 1, 2), (1, 8, 6, 6))
        z = model.op("ADD", [z, other], (1, 8, 6, 6), options=schema.AddOptionsT())
    back = model.transpose(z, (0, 2, 3, 1), (1, 6, 6, 8))
    return model, model.conv(back, 8, 3)


def alone(code="RELU", coded=False):
    """A clamp of its own behind a layer."""
    model = TfliteModel()
    grid, dtype = (INPUT, "int8") if coded else (None, "float32")
    y = model.conv(model.input((1, 6, 6, 4), dtype, grid), 4, 8, grid=grid)
    return model, model.op(code, [y], (1, 6, 6, 8), dtype, grid)


def unsigned():
    """Weights in uint8, as was usual once."""
    model = TfliteModel()
    x = model.input((1, 6, 6, 4), "uint8", (0.02, 128))
    codes = model.rng.integers(0, 256, (8, 1, 1, 4)).astype(np.uint8)
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
    options.padding = schema.Padding.VALID
    weight = model.constant(codes, (0.01, 120))
    bias = model.constant(np.zeros(8, np.int32), (0.0002, 0))
    return model, model.op(
        "CONV_2D", [x, weight, bias], (1, 6, 6, 8), "uint8", (0.05, 128), options
    )


def depthwise():
    """Channels of very different size with one scale."""
    model = TfliteModel()
    x = model.input((1, 6, 6, 8), "int8", INPUT)
    real = model.rng.normal(0, 1, (1, 1, 1, 8)) * np.geomspace(0.01, 1, 8)
    scale = np.abs(real).max() / 127
    weight = model.constant(np.rint(real / scale).astype(np.int8), (scale, 0))
    options = schema.DepthwiseConv2DOptionsT()
    options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
    options.depthMultiplier = 1
    options.padding = schema.Padding.VALID
    bias = model.constant(np.zeros(8, np.int32), (0.02 * scale, 0))
    inputs = [x, weight, bias]
    return model, model.op("DEPTHWISE_CONV_2D", inputs, (1, 6, 6, 8), "int8", (0.05, 0), options)


def detector():
    """Scores that a QUANTIZE brings to the scale of boxes."""
    model = TfliteModel()
    x = model.input((1, 6, 6, 4), "int8", INPUT)
    boxes = model.conv(x, 4, 4, grid=(5.0, 0))
    scores = model.conv(x, 4, 4, grid=(0.05, 0))
    scores = model.op("LOGISTIC", [scores], (1, 6, 6, 4), "int8", (1 / 256, -128))
    scores = model.op(
        "QUANTIZE", [scores], (1, 6, 6, 4), "int8", (5.0, 0), schema.QuantizeOptionsT()
    )
    options = schema.ConcatenationOptionsT()
    options.axis = 3
    inputs = [boxes, scores]
    return model, model.op("CONCATENATION", inputs, (1, 6, 6, 8), "int8", (5.0, 0), options)


def island():
    """An operator without integer kernel between codes."""
    model = TfliteModel()
    y = model.conv(model.input((1, 6, 6, 4), "int8", INPUT), 4, 8, grid=(0.03, 3))
    real = model.op("DEQUANTIZE", [y], (1, 6, 6, 8), options=schema.DequantizeOptionsT())
    real = model.op("SIN", [real], (1, 6, 6, 8))
    grid = (1 / 127, 0)
    y = model.op("QUANTIZE", [real], (1, 6, 6, 8), "int8", grid, schema.QuantizeOptionsT())
    return model, model.conv(y, 8, 3, grid=(0.05, 0))


def open_size():
    """An input whose height and width may change."""
    model = TfliteModel()
    x = model.input((1, 6, 6, 4), signature=(1, -1, -1, 4))
    return model, model.conv(x, 4, 8)


def half_all_the_way():
    """A layer that computes in float16, which plain kernels do not."""
    model = TfliteModel()
    x = model.input((1, 6, 6, 4), "float16")
    weight = model.constant(model.rng.normal(0, 0.5, (8, 1, 1, 4)).astype(np.float16))
    bias = model.constant(np.zeros(8, np.float16))
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
    options.padding = schema.Padding.VALID
    return model, model.op("CONV_2D", [x, weight, bias], (1, 6, 6, 8), "float16", None, options)


def custom():
    """An operator that no interpreter has."""
    model = TfliteModel()
    x = model.input((1, 6, 6, 4))
    return model, model.op("CUSTOM", [x], (1, 6, 6, 4), custom="Twist")
