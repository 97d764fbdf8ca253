import numpy as np
import onnx
import onnx_ir as ir

from edgekit.converters.calibrate import calibrate
from edgekit.converters.passes import simplify
from edgekit.converters.quantization import (
    ActivationQuantization,
    WeightQuantization,
    get_quantization,
)
from edgekit.converters.quantize import get_report, quantize
from edgekit.converters.read_onnx import read_onnx

_NET = """<ir_version: 8, opset_import: ["": 13]>
net (float[N, 3, 8, 8] x) => (float[N, 5] y) {
  a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w, b)
  low = Constant <value = float {0.0}> ()
  high = Constant <value = float {6.0}> ()
  c = Clip (a, low, high)
  p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)
  m = ReduceMean <axes = [2, 3], keepdims = 0> (p)
  y = Gemm <transB = 1> (m, g)
}"""


def _read(tmp_path, text, **weights):
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in weights.items()
    )
    onnx.save(proto, tmp_path / "net.onnx")
    return read_onnx(tmp_path / "net.onnx")


def test_quantize_hangs_a_record_on_every_value_of_a_small_net(tmp_path):
    rng = np.random.default_rng(1)
    model = _read(
        tmp_path,
        _NET,
        w=rng.normal(size=(4, 3, 3, 3)).astype(np.float32) * 3,
        b=rng.normal(size=4).astype(np.float32),
        g=rng.normal(size=(5, 4)).astype(np.float32),
    )
    simplify(model)
    samples = [{"x": rng.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(8)]
    quantized = quantize(model, calibrate(model, samples))

    report = get_report(quantized)
    assert not report.float_nodes
    ops = [node.op_type for node in quantized.graph]
    assert ops == ["Conv", "MaxPool", "GlobalAveragePool", "Flatten", "Gemm"]
    records = {
        value.name: get_quantization(value)
        for value in (
            *quantized.graph.inputs,
            *quantized.graph.initializers.values(),
            *(value for node in quantized.graph for value in node.outputs),
        )
        if value.uses() or value.is_graph_output()
    }
    assert all(record is not None for record in records.values())
    clipped = records["c"]
    assert isinstance(clipped, ActivationQuantization)
    assert clipped.zero_point == -128
    assert clipped.scale <= np.float32(6 / 255)
    assert records["p"] == clipped
    weight, bias = records["w"], records["b"]
    assert isinstance(weight, WeightQuantization)
    assert weight.codes.dtype == np.int8
    assert np.abs(weight.codes).max(axis=(1, 2, 3)).tolist() == [127] * 4
    np.testing.assert_array_equal(bias.scale, records["x"].scale * weight.scale)
    assert get_quantization(model.graph.inputs[0]) is None
    assert isinstance(quantized, ir.Model)
