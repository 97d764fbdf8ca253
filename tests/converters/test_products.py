"""Products of two tensors of codes: every form gives the codes of the judge, whatever their shapes and grids."""

import numpy as np
import onnx
import onnx_ir as ir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit import _native
from edgekit.converters.calibrate import calibrate
from edgekit.converters.compare import compare_layers
from edgekit.converters.lower import lower
from edgekit.converters.program import MatMul, Transpose
from edgekit.converters.quantization import get_quantization
from edgekit.converters.quantize import quantize
from edgekit.converters.reference import run_program
from edgekit.converters.write_onnx import write_onnx
from edgekit.converters.write_plan import write_plan

RUNNABLE = [info.name for info in _native.isas() if info.built and info.supported]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_every_form_multiplies_alike(graph_builder, tmp_path, data):
    builder = graph_builder(data.draw(st.integers(0, 2**32 - 1)))
    batches = data.draw(st.sampled_from([(), (1,), (3,), (2, 3)]))
    m, k, n = (data.draw(st.integers(*ends)) for ends in ((1, 9), (2, 70), (2, 40)))
    shared = data.draw(st.booleans())
    turned = data.draw(st.booleans())
    second = (n, k) if turned else (k, n)
    shapes = {"x": (*batches, m, k), "w": second if shared else (*batches, *second)}
    x, w = (builder.input(shape, name) for name, shape in shapes.items())
    builder.on_grid(x, *data.draw(st.sampled_from([(-2, 2), (0, 3), (-1, 5)])))
    builder.on_grid(w, *data.draw(st.sampled_from([(-2, 2), (-127 / 64, 127 / 64), (0, 3)])))
    if turned:
        order = list(range(len(shapes["w"])))
        order[-2:] = reversed(order[-2:])
        w = builder.node("Transpose", [w], like=w, perm=order)
    y = builder.node("MatMul", [x, w], -4, data.draw(st.sampled_from([0.5, 6])))
    model = builder.build(y)
    inputs = {
        name: builder.rng.normal(0, 1.2, shape).astype(np.float32) for name, shape in shapes.items()
    }
    program = lower(model)
    recorded = run_program(program, inputs)
    (product,) = (op for op in program.ops if isinstance(op, MatMul))
    if len(batches) < 2:  # What has four dimensions comes in as an image, turned.
        assert product.transposed == turned
        assert not any(isinstance(op, Transpose) for op in program.ops)
    for isa in RUNNABLE:
        path = tmp_path / "net.plan"
        write_plan(program, path, isa=isa, target="host", source_digest="0" * 64)
        session = _native.Session(_native.Plan.open(path), 2)
        for _, tensor, values in session.trace(inputs):
            np.testing.assert_array_equal(values, recorded[tensor], err_msg=f"{tensor} on {isa}")
    plain = lower(model, fuse=False)
    path = write_onnx(model, tmp_path / "net.onnx", style="ort-x86")
    for layer in compare_layers(path, plain, run_program(plain, inputs)):
        assert layer.largest == 0, layer


def test_second_matrices_get_grids_around_zero_where_that_costs_little():
    text = '<ir_version: 10, opset_import: ["": 21]> net (float[4, 8] x, float[8, 5] w) => (float[4, 5] y) '
    model = ir.from_proto(onnx.parser.parse_model(text + "{ y = MatMul (x, w) }"))
    random = np.random.default_rng(3)
    for low, zero_point in ((-1.9, 0), (-0.1, -116)):
        sample = {
            "x": random.uniform(-1, 2, (4, 8)).astype(np.float32),
            "w": np.linspace(low, 2, 40, dtype=np.float32).reshape(8, 5),
        }
        graph = quantize(model, calibrate(model, [sample])).graph
        assert [get_quantization(value).zero_point for value in graph.inputs][1] == zero_point
