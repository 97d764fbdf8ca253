"""What the tests of passes share: a model in a line, and a pass held to what it may change."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from edgekit.converters.read_onnx import infer_shapes


def f32(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def parse(body, result="float[N, p, q, r] y", shape="N, 3, 9, 8", **weights):
    """Returns the model of ``body``, canonical, with ``weights`` as initializers."""
    text = f"""<ir_version: 10, opset_import: ["": 21]>
    net (float[{shape}] x) => ({result}) {{ {body} }}"""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in weights.items()
    )
    model = ir.from_proto(proto)
    infer_shapes(model)
    return model


def run(model, x):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(ir.to_proto(model).SerializeToString(), options).run(None, {"x": x})


def ops(model):
    return [node.op_type for node in model.graph]


def check(model, graph_pass, expected, x=None, tolerance=1e-5):
    """Applies the pass: the operators become ``expected``, the results stay, a second time changes nothing."""
    if x is None:
        x = f32(2, *(dim for dim in model.graph.inputs[0].shape[1:]), seed=7)
    before = run(model, x)
    report = graph_pass(model)
    assert ops(model) == expected
    assert report.modified == bool(report.changed)
    assert not graph_pass(model).changed
    infer_shapes(model)
    for new, old in zip(run(model, x), before, strict=True):
        np.testing.assert_allclose(new, old, rtol=tolerance, atol=tolerance)
    return report


NUMBERS = {
    "zero": 0.0,
    "half": 0.5,
    "one": 1.0,
    "three": 3.0,
    "six": 6.0,
    "sixth": 1 / 6,
    "root": 2**0.5,
    "rooth": 0.5**0.5,
}


def used_numbers(body):
    words = body.replace(",", " ").replace("(", " ").replace(")", " ").split()
    return {name: np.float32(value) for name, value in NUMBERS.items() if name in words}
