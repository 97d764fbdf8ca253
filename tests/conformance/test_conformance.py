"""ONNX's own cases give no wrong answer, and the table of operators says what became of them."""

import numpy as np
import onnx
import pytest
from cases import FAILED, KINDS, PASSED, SKIPPED, load_cases, run_case
from report import TABLE, make_table, run_cases

from edgekit.onnx_backend import NativeBackend, UnsupportedModelError


@pytest.fixture(scope="module")
def results():
    return list(run_cases(KINDS))


@pytest.mark.slow
def test_no_case_fails(results):
    assert [r for r in results if r.outcome == FAILED] == []
    assert sum(r.outcome == PASSED for r in results) > 0
    assert all(r.reason for r in results if r.outcome == SKIPPED)


@pytest.mark.slow
def test_the_table_is_up_to_date(results):
    if f"of onnx {onnx.__version__}:" not in TABLE.read_text():
        pytest.skip(f"the table is of another onnx than the {onnx.__version__} installed here")
    assert TABLE.read_text() == make_table(results, onnx.__version__), "run make conformance"


def test_a_sample_of_cases():
    """Some cases of all kinds of operators, so that a wrong answer is seen every day; slow tests run them all."""
    cases = [case for kind in KINDS[:-1] for case in load_cases(kind)][::40]
    found = [run_case(case) for case in cases]
    assert [r for r in found if r.outcome == FAILED] == []
    rows = {line.split(" | ")[0] for line in TABLE.read_text().splitlines()}
    assert {f"| {operator}" for r in found for operator in r.operators} <= rows


def _model(body, inputs="float[2, 3] x", outputs="float[2, 3] y"):
    text = f'<ir_version: 10, opset_import: ["" : 21]> g ({inputs}) => ({outputs}) {{ {body} }}'
    return onnx.parser.parse_model(text)


def test_operands_that_a_plan_must_know_are_taken_from_the_first_run_and_checked_in_others():
    runnable = NativeBackend.prepare(
        _model("y = MatMul (x, w)", "float[2, 3] x, float[3, 4] w", "float[2, 4] y")
    )
    rng = np.random.default_rng(1)
    x, first, second = (rng.standard_normal(s).astype(np.float32) for s in ((2, 3), (3, 4), (3, 4)))
    for w in (first, second):
        np.testing.assert_allclose(runnable.run([x, w])[0], x @ w, rtol=1e-5)


def test_a_node_by_itself():
    node = onnx.helper.make_node("Add", ["a", "b"], ["c"])
    a = np.float32([[1, 2]])
    assert NativeBackend.run_node(node, [a, a])[0].tolist() == [[2, 4]]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_a_model_of_codes_takes_and_gives_codes(dtype):
    random = np.random.default_rng(0)
    ends = np.iinfo(dtype)
    a, b = (random.integers(ends.min, ends.max + 1, s).astype(dtype) for s in ((3, 5), (5, 4)))
    scales = [np.float32(0.02), np.float32(0.01), np.float32(0.03)]
    zeros = [np.array(code + ends.min + 128, dtype) for code in (3, -7, 11)]
    names = ["a", "as", "az", "b", "bs", "bz", "ys", "yz"]
    node = onnx.helper.make_node("QLinearMatMul", names, ["y"], "product")
    inputs = [a, scales[0], zeros[0], b, scales[1], zeros[1], scales[2], zeros[2]]
    (given,) = NativeBackend.run_node(node, inputs, outputs_info=[(dtype, (3, 4))])
    left, right = (
        codes.astype(int) - int(zero) for codes, zero in zip((a, b), zeros[:2], strict=True)
    )
    wanted = np.rint(left @ right * (scales[0] * scales[1] / scales[2])) + int(zeros[2])
    assert given.dtype == dtype
    np.testing.assert_array_equal(given, wanted.clip(ends.min, ends.max))


def test_what_cannot_be_held_is_refused_in_words():
    with pytest.raises(UnsupportedModelError, match="Det"):
        NativeBackend.run_model(
            _model("y = Det (x)", "float[3, 3] x", "float y"), [np.eye(3, dtype=np.float32)]
        )
    with pytest.raises(UnsupportedModelError, match="not on CUDA"):
        NativeBackend.prepare(_model("y = Relu (x)"), "CUDA")
    assert not NativeBackend.supports_device("CUDA:1")
