"""Embedding tables in int8: what the rows keep, and the same bytes in the judge, the runtime and ONNX Runtime."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import _native
from edgekit.converters.calibrate import calibrate
from edgekit.converters.lower import lower
from edgekit.converters.onnx_file import size_of_onnx
from edgekit.converters.quantize import quantize
from edgekit.converters.quantize.tables import encode_rows, quantize_tables
from edgekit.converters.read_onnx import infer_shapes
from edgekit.converters.reference import run_program
from edgekit.converters.write_onnx import write_onnx
from edgekit.converters.write_plan import write_plan

RNG = np.random.default_rng(3)
RUNNABLE = [info.name for info in _native.isas() if info.built and info.supported]
ROWS, WIDTH = 1024, 32
# Rows of very different size, one of zeros.
TABLE = RNG.normal(size=(ROWS, WIDTH)) * np.exp(RNG.normal(size=(ROWS, 1)) * 2)
TABLE = TABLE.astype(np.float32)
TABLE[7] = 0
IDS = RNG.integers(-ROWS, ROWS, (2, 5))


def parse(body, outputs="float y", ids="int64[2, 5] n", **constants):
    proto = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 21]> net ({ids}) => ({outputs}) {{ {body} }}'
    )
    arrays = {"table": TABLE, **constants}
    for name, array in arrays.items():
        if name in body:
            proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    model = ir.from_proto(proto)
    infer_shapes(model)
    return model


def operators(model):
    return [node.op_type for node in model.graph]


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 1e-44, 1e-30, 1.0, 3e38]),
)
def test_rows_keep_all_but_half_a_step(rows, width, seed, size):
    table = (np.random.default_rng(seed).uniform(-1, 1, (rows, width)) * size).astype(np.float32)
    codes, scales = encode_rows(table)
    assert codes.dtype == np.int8
    assert codes.min(initial=0) >= -127
    assert np.isfinite(scales).all()
    assert (scales > 0).all()
    error = np.abs(codes.astype(np.float64) * scales.astype(np.float64) - table)
    assert (error <= scales.astype(np.float64) * 0.5001).all()


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_forms_look_up_the_same_bytes(isa, dtype, tmp_path):
    kind = f"{dtype}[2, 5] n"
    model = parse("y = Gather (table, n)", "float[2, 5, 32] y", kind)
    ids = IDS.astype(dtype)
    quantized = quantize(model, calibrate(model, [{"n": ids}]))
    assert operators(quantized) == ["Gather", "Gather", "Cast", "Mul"]
    codes, scales = encode_rows(TABLE)
    wanted = codes[ids].astype(np.float32) * scales[ids]
    program = lower(quantized)
    np.testing.assert_array_equal(run_program(program, {"n": ids})["y"], wanted)
    plan = tmp_path / "table.plan"
    write_plan(program, plan, isa=isa, target="host", source_digest="00")
    session = _native.Session(_native.Plan.open(plan))
    np.testing.assert_array_equal(session.run({"n": ids})["y"], wanted)
    file = write_onnx(quantized, tmp_path / "table.onnx", style="ort-x86")
    (found,) = onnxruntime.InferenceSession(file).run(None, {"n": ids})
    np.testing.assert_array_equal(found, wanted)
    for path in (plan, file):
        assert size_of_onnx(path) < TABLE.nbytes / 3


def test_indices_that_lie_outside_are_brought_to_an_end(tmp_path):
    model = parse("y = Gather (table, n)", "float[2, 5, 32] y")
    program = lower(quantize(model, calibrate(model, [{"n": IDS}])))
    plan = tmp_path / "table.plan"
    write_plan(program, plan, isa="generic", target="host", source_digest="00")
    far = np.array([[ROWS, 2**62, -ROWS - 1, -(2**62), 2**31]] * 2)
    found = _native.Session(_native.Plan.open(plan)).run({"n": far})["y"]
    codes, scales = encode_rows(TABLE)
    ends = np.array([ROWS - 1, ROWS - 1, 0, 0, ROWS - 1])
    np.testing.assert_array_equal(found[0], codes[ends].astype(np.float32) * scales[ends])


def test_nodes_that_share_a_table_share_its_codes():
    body = "a = Gather (table, n) b = Neg (n) c = Gather (table, b) y = Add (a, c)"
    model = parse(body)
    quantized = quantize(model, calibrate(model, [{"n": IDS}]))
    tables = [v for v in quantized.graph.initializers.values() if v.dtype == ir.DataType.INT8]
    assert [list(value.shape) for value in tables] == [[ROWS, WIDTH]]
    assert "table" not in quantized.graph.initializers


@pytest.mark.parametrize(
    ("body", "outputs", "constants"),
    [
        ("y = Gather <axis = 1> (table, n)", "float[1024, 2, 5] y", {}),
        ("y = Gather (small, n)", "float[2, 5, 3] y", {"small": TABLE[:, :3]}),
        ("y = Gather (row, n)", "float[2, 5] y", {"row": np.zeros(1 << 15, np.float32)}),
        ("y = Gather (whole, n)", "int64[2, 5, 32] y", {"whole": np.zeros((ROWS, 32), np.int64)}),
    ],
)
def test_other_lookups_are_left_alone(body, outputs, constants):
    model = parse(body, outputs, **constants)
    assert quantize_tables(model.graph) == ()
    assert operators(model) == ["Gather"]


def test_tables_can_be_left_float():
    model = parse("y = Gather (table, n)")
    quantized = quantize(model, calibrate(model, [{"n": IDS}]), tables=False)
    assert operators(quantized) == ["Gather"]
