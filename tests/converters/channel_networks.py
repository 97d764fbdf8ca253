"""Networks whose channels depend on each other in one way each, of random widths: for what cuts channels."""

import numpy as np
from float_networks import FloatNet


def _convolved(net, channels, kernel=3, group=1, x=("x", 4, 8)):
    return net.active(net.conv(x, channels, group, kernel), "Relu")


def _matmul(net, x, inputs, outputs, bias=True):
    made = net.node("MatMul", [x, net.normal(inputs, outputs, spread=inputs**-0.5)])
    return net.node("Add", [made, net.normal(outputs, spread=0.3)]) if bias else made


def _reshape(net, x, *shape):
    return net.node("Reshape", [x, net.constant(np.array(shape, np.int64))])


def _rows(net, width):
    """Returns the image as rows of features [N, 64, width]."""
    flat = _reshape(net, "x", 0, 4, 64)
    return _matmul(net, net.node("Transpose", [flat], perm=[0, 2, 1]), 4, width)


def _finish_rows(net, rows, width):
    """Makes an image of rows again, so that the head can read it."""
    back = net.node("Transpose", [_matmul(net, rows, width, 4)], perm=[0, 2, 1])
    net.values.append((_reshape(net, back, 0, 4, 8, 8), 4, 8))


def gate(net, n):
    """Squeeze and excite, and a gate for each place that all channels share."""
    name, channels, size = _convolved(net, 2 * n)
    mean = net.node("GlobalAveragePool", [name])
    small = _convolved(net, n, 1, 1, (mean, channels, 1))
    gates = net.node("Sigmoid", [net.conv(small, channels, 1, 1)[0]])
    scaled = net.node("Mul", [name, gates] if n % 2 else [gates, name])
    place = net.node("Sigmoid", [net.conv((scaled, channels, size), 1, 1, 1)[0]])
    net.values.append(_convolved(net, n, x=(net.node("Mul", [scaled, place]), channels, size)))


def heads(net, n):
    """Attention of several heads, sums around it, normalization, and a wider layer between two."""
    count, depth = 1 + n % 4, 2 + n % 3
    width = count * depth
    rows = _rows(net, 8)
    parts = [
        net.node(
            "Transpose",
            [_reshape(net, _matmul(net, rows, 8, width), 0, 64, count, depth)],
            perm=[0, 2, 3, 1] if part == "k" else [0, 2, 1, 3],
        )
        for part in "qkv"
    ]
    scores = net.node("MatMul", parts[:2])
    scores = net.node("Div", [scores, net.constant(np.float32(depth**0.5))])
    mixed = net.node("MatMul", [net.node("Softmax", [scores], axis=-1), parts[2]])
    joined = net.node("Transpose", [mixed], perm=[0, 2, 1, 3])
    made = _matmul(net, _reshape(net, joined, 0, 64, width), width, 8)
    rows = net.node("Add", [made, rows])
    scale, bias = net.normal(8), net.normal(8)
    rows = net.node("LayerNormalization", [rows, scale, bias], axis=-1)
    inner = net.node("Gelu", [_matmul(net, rows, 8, 4 * n)])
    _finish_rows(net, net.node("Add", [_matmul(net, inner, 4 * n, 8), rows]), 8)


def recurrent(net, n, op="LSTM", directions=1):
    """A recurrent layer between two others, its states beginning at constants."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    rows = net.node("Transpose", [_rows(net, 2 * n)], perm=[1, 0, 2])
    inputs = [
        rows,
        net.normal(directions, gates * n, 2 * n, spread=0.3),
        net.normal(directions, gates * n, n, spread=0.3),
        net.normal(directions, 2 * gates * n, spread=0.3),
        "",
        net.normal(directions, 3, n),
    ]
    if op == "LSTM":
        inputs += [net.normal(directions, 3, n), net.normal(directions, 3 * n)]
    kind = "bidirectional" if directions == 2 else "forward"
    made = net.node(op, inputs, hidden_size=n, direction=kind)
    whole = net.node("Transpose", [made], perm=[2, 0, 1, 3])
    _finish_rows(net, _reshape(net, whole, 0, 64, directions * n), directions * n)


def shuffle(net, n):
    """Groups, a shuffle, a part that goes another way, and a concatenation of all."""
    name, channels, size = _convolved(net, 4 * n)
    grouped = _convolved(net, 4 * n, 3, 2, (name, channels, size))
    moved = _reshape(net, grouped[0], 0, 2, 2 * n, 8, 8)
    moved = _reshape(net, net.node("Transpose", [moved], perm=[0, 2, 1, 3, 4]), 0, 4 * n, 8, 8)
    ends = [net.constant(np.array([end], np.int64)) for end in (0, 2 * n, 1 << 40, 1)]
    first = net.node("Slice", [moved, ends[0], ends[1], ends[3]])
    second = net.node("Slice", [moved, ends[1], ends[2], ends[3]])
    third = net.node("Gather", [name, net.constant(np.arange(1, 4 * n, 2, dtype=np.int64))], axis=1)
    other = _convolved(net, n, x=(second, 2 * n, 8))
    whole = net.node("Concat", [first, other[0], third], axis=1)
    net.values.append(_convolved(net, n, 1, x=(whole, 5 * n, size)))


def normalized(net, n):
    """Normalization by channel, paddings, larger and smaller images, transposed convolutions."""
    name, channels, _ = net.conv(("x", 4, 8), 2 * n)
    scale, bias = net.normal(channels), net.normal(channels)
    spread = net.constant(net.random.uniform(0.5, 2, channels).astype(np.float32))
    name = net.node("BatchNormalization", [name, scale, bias, net.normal(channels), spread])
    name = net.node("InstanceNormalization", [net.node("HardSwish", [name]), scale, bias])
    pads = net.constant(np.array([0, 0, 1, 0, 0, 0, 0, 1], np.int64))
    name = net.node("Pad", [name, pads, net.constant(np.float32(0.5))])
    sizes = net.constant(np.array([3, channels, 5, 5], np.int64))
    name = net.node("Resize", [name, "", "", sizes], mode="nearest")
    weight = net.normal(channels, 2 * n, 2, 2, spread=channels**-0.5)
    name = net.node("ConvTranspose", [name, weight, net.normal(2 * n)], strides=[2, 2])
    each = net.normal(2 * n, 2, 3, 3, spread=0.3)
    name = net.node("ConvTranspose", [name, each, net.normal(4 * n)], group=2 * n)
    name = net.node("PRelu", [name, net.normal(4 * n, 1, 1)])
    net.values.append(_convolved(net, n, 1, x=(name, 4 * n, 12)))


def features(net, n):
    """Fully connected layers behind a flattened image, and a mask that constants make."""
    flat = net.node("Flatten", [net.node("MaxPool", [_convolved(net, n)[0]], kernel_shape=[8, 8])])
    shifted = net.node("Sub", [net.normal(n), flat])
    weight, bias = net.normal(3 * n, n, spread=0.5), net.normal(3 * n)
    made = net.node("Tanh", [net.node("Gemm", [shifted, weight, bias], transB=1)])
    made = net.node("Pow", [made, net.constant(np.float32(2))])
    made = net.node("Gemm", [made, net.normal(3 * n, 64, spread=0.5)])
    net.values.append((_reshape(net, made, -1, 1, 8, 8), 1, 8))


KINDS = {
    "gate": gate,
    "heads": heads,
    "LSTM": recurrent,
    "LSTM both ways": lambda net, n: recurrent(net, n, "LSTM", 2),
    "GRU": lambda net, n: recurrent(net, n, "GRU"),
    "RNN": lambda net, n: recurrent(net, n, "RNN", 2),
    "shuffle": shuffle,
    "normalized": normalized,
    "features": features,
}


def build(kind, seed, n):
    """Returns a network of some kind, which has ``x`` [3, 4, 8, 8], and of widths that are multiples of ``n``."""
    net = FloatNet(seed)
    KINDS[kind](net, n)
    return net.build()
