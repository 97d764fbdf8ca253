"""int4 weights of an ONNX file are int4 again when it is read."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit.converters.calibrate import calibrate
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.own_scales import keep_own_scales
from edgekit.converters.quantization import get_quantization
from edgekit.converters.quantize import quantize
from edgekit.converters.read_model import read_model
from edgekit.converters.read_onnx import read_onnx
from edgekit.converters.write_onnx import write_onnx


def test_int4_weights_that_were_written_come_back_as_int4(tmp_path):
    random = np.random.default_rng(0)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], "layer")]
    tensors = [
        numpy_helper.from_array(random.normal(0, 1, (24, 16)).astype(np.float32), "w"),
        numpy_helper.from_array(random.normal(0, 1, 16).astype(np.float32), "b"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 24])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 16])],
        tensors,
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10),
        tmp_path / "float.onnx",
    )
    model = read_onnx(tmp_path / "float.onnx")
    samples = [{"x": random.normal(0, 1, (1, 24)).astype(np.float32)} for _ in range(8)]
    formats = {"layer": NumberFormat.INT4}
    made = quantize(model, calibrate(model, samples), formats=formats)
    (wanted,) = [get_quantization(node.inputs[1]) for node in made.graph]
    for style in ("ort-x86", "ort-arm"):
        source = read_model(write_onnx(made, tmp_path / f"{style}.onnx", style=style))
        kept = keep_own_scales(source.graph, source.records)
        (found,) = [get_quantization(n.inputs[1]) for n in kept.graph if n.op_type == "Gemm"]
        np.testing.assert_array_equal(found.codes, wanted.codes)
        np.testing.assert_array_equal(found.scale, wanted.scale)
        assert found.bits == 4
