import tracemalloc

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgekit.converters.calibrate import (
    METHODS,
    Calibration,
    ChannelMoments,
    TensorSketch,
    calibrate,
    choose_range,
)
from edgekit.converters.calibrate.ranges import mse, percentile
from edgekit.converters.read_onnx import infer_shapes, read_onnx
from edgekit.targets.errors import CalibrationError, ModelError

VALUES = arrays.arrays(
    np.float32, st.integers(1, 40), elements=st.floats(-(2.0**100), 2.0**100, width=32)
)


def sketch_of(*parts):
    sketch = TensorSketch()
    for part in parts:
        assert sketch.add(np.asarray(part, np.float32))
    return sketch


def state(sketch):
    return sketch.counts.tobytes(), float(sketch.lo), float(sketch.hi)


@given(parts=st.lists(VALUES, min_size=1, max_size=5), order=st.randoms())
def test_sketch_depends_neither_on_order_nor_on_parts(parts, order):
    whole = state(sketch_of(np.concatenate(parts)))
    shuffled = list(parts)
    order.shuffle(shuffled)
    assert state(sketch_of(*shuffled)) == whole
    merged = sketch_of(shuffled[0])
    for part in shuffled[1:]:
        merged.merge(sketch_of(part))
    assert state(merged) == whole


@given(parts=st.lists(VALUES, min_size=2, max_size=3), method=st.sampled_from(sorted(METHODS)))
@settings(max_examples=25, deadline=None)
def test_range_that_is_remembered_is_that_of_a_fresh_sketch(parts, method):
    grown = TensorSketch()
    for count, part in enumerate(parts, 1):
        grown.add(part)
        fresh = sketch_of(*parts[:count])
        assert choose_range(grown, method) == METHODS[method](fresh)
        assert choose_range(grown, method) is choose_range(grown, method)


@given(values=VALUES)
def test_sketch_knows_extremes_exactly_and_every_value_to_a_bucket(values):
    sketch = sketch_of(values)
    assert (sketch.lo, sketch.hi) == (values.min(), values.max())
    begin, end, count = sketch.buckets()
    assert count.sum() == values.size == sketch.total
    assert np.all(np.diff(begin) >= 0)
    assert np.all(end - begin <= np.maximum(np.abs(begin), np.abs(end)) / 128 + 1e-38)
    inside = (values[:, None] >= begin) & (values[:, None] <= end)
    assert inside.any(axis=1).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_sketch_refuses_what_is_not_finite(bad):
    sketch = sketch_of([1.0])
    before = state(sketch)
    assert not sketch.add(np.array([0.0, bad], np.float32))
    assert state(sketch) == before


@given(
    parts=st.lists(
        arrays.arrays(np.float32, (2, 3, 4), elements=st.floats(-(2.0**20), 2.0**20, width=32)),
        max_size=6,
    ),
    order=st.randoms(),
)
def test_moments_depend_neither_on_order_nor_on_parts_and_are_right(parts, order):
    def moments_of(items):
        moments = ChannelMoments(1, 3)
        for item in items:
            moments.add(item)
        return moments

    shuffled = list(parts)
    order.shuffle(shuffled)
    one, other = moments_of(parts), moments_of(shuffled[:2])
    other.merge(moments_of(shuffled[2:]))
    for a, b in ((one.sums, other.sums), (one.squares, other.squares)):
        assert a.whole.tolist() == b.whole.tolist()
        assert a.fraction.tolist() == b.fraction.tolist()
    if parts:
        rows = np.moveaxis(np.stack(parts), 2, 0).reshape(3, -1).astype(np.float64)
        np.testing.assert_allclose(one.mean(), rows.mean(axis=1), atol=1e-9, rtol=1e-9)
        np.testing.assert_allclose(one.variance(), rows.var(axis=1), atol=1e-3, rtol=1e-6)


@pytest.mark.parametrize("method", sorted(METHODS))
@settings(deadline=None, max_examples=30)
@given(values=VALUES)
def test_every_range_is_within_the_extremes_and_holds_zero(method, values):
    found = choose_range(sketch_of(values), method)
    assert found.lo <= 0.0 <= found.hi
    assert found.lo >= min(0.0, float(values.min()))
    assert found.hi <= max(0.0, float(values.max()))


def test_minmax_is_exact():
    found = choose_range(sketch_of([-1.2345678, 0.5, 7.6543]), "minmax")
    assert (found.lo, found.hi) == (float(np.float32(-1.2345678)), float(np.float32(7.6543)))


def test_percentile_leaves_out_tails():
    rng = np.random.default_rng(3)
    values = rng.normal(size=100_000)
    found = percentile(sketch_of(values, [1000.0, -1000.0]), 99.0)
    lo, hi = np.quantile(values, [0.005, 0.995])
    assert found.lo == pytest.approx(lo, rel=0.02)
    assert found.hi == pytest.approx(hi, rel=0.02)


def quantization_error(values, found):
    step = (found.hi - found.lo) / 255
    kept = np.clip(values, found.lo, found.hi)
    return float(np.mean((values - np.rint(kept / step) * step) ** 2))


def test_mse_has_less_error_than_the_extremes_and_is_near_the_best():
    rng = np.random.default_rng(4)
    values = rng.laplace(size=50_000)
    sketch = sketch_of(values)
    found = mse(sketch)
    whole = choose_range(sketch, "minmax")
    errors = [
        quantization_error(values, type(found)(whole.lo * a, whole.hi * b))
        for a in np.linspace(0.05, 1, 20)
        for b in np.linspace(0.05, 1, 20)
    ]
    assert quantization_error(values, found) < 0.95 * quantization_error(values, whole)
    assert quantization_error(values, found) < 1.05 * min(errors)


def test_entropy_cuts_lone_outliers_and_keeps_clamped_values():
    rng = np.random.default_rng(5)
    bulk = rng.normal(size=100_000)
    found = choose_range(sketch_of(bulk, [40.0]), "entropy")
    assert 2.0 < found.hi < 20.0
    clamped = np.clip(rng.normal(size=100_000) * 4, 0, 6)
    assert choose_range(sketch_of(clamped), "entropy").hi == 6.0


def test_unknown_method_and_empty_sketch_are_errors():
    with pytest.raises(
        CalibrationError, match="no range method 'median'; there are entropy, minmax"
    ):
        choose_range(sketch_of([1.0]), "median")
    with pytest.raises(CalibrationError, match="no values"):
        choose_range(TensorSketch(), "minmax")


@pytest.fixture
def model():
    proto = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["": 21]>
    net (float[N, 3, 6, 6] x) => (float[N, 4, q, r] y) {
      a = Conv (x, w) b = Relu (a) c = Log (b) d = Relu (c) y = Add (b, d)
    }""")
    rng = np.random.default_rng(0)
    weights = np.abs(rng.normal(size=(4, 3, 3, 3)).astype(np.float32))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    result = ir.from_proto(proto)
    infer_shapes(result)
    return result


def make_samples(count, seed=0, size=6):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield {"x": rng.uniform(0.1, 1.0, size=(1, 3, size, size)).astype(np.float32)}


def same(one, other):
    assert one.samples == other.samples
    assert one.sketches.keys() == other.sketches.keys()
    for name, sketch in one.sketches.items():
        assert state(sketch) == state(other.sketches[name])
    for name, moments in one.moments.items():
        assert moments.count == other.moments[name].count
        np.testing.assert_array_equal(moments.mean(), other.moments[name].mean())
        np.testing.assert_array_equal(moments.variance(), other.moments[name].variance())
    return True


def test_calibrate_sees_every_float_tensor_in_any_order(model):
    samples = list(make_samples(6))
    calibration = calibrate(model, samples)
    assert list(calibration.sketches) == ["x", "a", "b", "c", "d", "y"]
    assert calibration.sketches["x"].total == 6 * 108
    assert list(calibration.moments) == ["x"]
    assert same(calibration, calibrate(model, samples[::-1]))
    assert [value.name for value in model.graph.outputs] == ["y"]


def test_parts_merge_and_survive_a_file(model, tmp_path):
    samples = list(make_samples(7))
    whole = calibrate(model, samples)
    part, rest = calibrate(model, samples[:3]), calibrate(model, samples[3:])
    rest.save(tmp_path / "rest.npz")
    part.merge(Calibration.load(tmp_path / "rest.npz"))
    assert same(part, whole)


def test_killed_calibration_resumes_where_it_was_saved(model, tmp_path):
    samples = list(make_samples(9))
    seen = []

    def die(done, total):
        seen.append((done, total))
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(model, samples, progress=die, checkpoint=tmp_path / "c.npz", checkpoint_every=2)
    assert seen == [(i, 9) for i in range(1, 6)]
    assert Calibration.load(tmp_path / "c.npz").samples == 4
    seen.clear()
    resumed = calibrate(
        model, samples, progress=lambda *step: seen.append(step), checkpoint=tmp_path / "c.npz"
    )
    assert [done for done, _ in seen] == [5, 6, 7, 8, 9]
    assert same(resumed, calibrate(model, samples))


def test_checkpoint_of_another_model_or_a_damaged_one_is_refused(model, tmp_path, model_file):
    text = """<ir_version: 8, opset_import: ["": 17]>
    net (float[N, 3] x) => (float[N, 3] y) { y = Relu (x) }"""
    other = read_onnx(model_file(text))
    calibrate(other, [{"x": np.ones((1, 3), np.float32)}], checkpoint=tmp_path / "c.npz")
    with pytest.raises(CalibrationError, match=r"c\.npz: .* different models"):
        calibrate(model, make_samples(1), checkpoint=tmp_path / "c.npz")
    data = (tmp_path / "c.npz").read_bytes()
    for damaged in (data[: len(data) // 2], b"", b"text"):
        (tmp_path / "c.npz").write_bytes(damaged)
        with pytest.raises(CalibrationError, match="not a calibration file, or damaged"):
            Calibration.load(tmp_path / "c.npz")
    with pytest.raises(CalibrationError, match="no such file"):
        Calibration.load(tmp_path / "absent.npz")


def test_memory_does_not_grow_with_the_samples(model):
    def peak(count):
        tracemalloc.start()
        calibrate(model, make_samples(count))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(2)
    assert peak(200) < peak(5) + 200_000


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "no calibration samples"),
        ([{"y": np.ones((1, 3, 6, 6), np.float32)}], r"sample 0 has inputs \['y'\].*takes \['x'\]"),
        ([{"x": np.ones((1, 3, 6, 6))}], "input 'x' is float64, but the model takes float32"),
        ([{"x": np.ones((1, 4, 6, 6), np.float32)}], r"has shape \[1, 4, 6, 6\]"),
        ([{"x": np.ones((3, 6, 6), np.float32)}], r"has shape \[3, 6, 6\]"),
        (
            [*make_samples(2), {"x": np.full((1, 3, 6, 6), np.nan, np.float32)}],
            "input 'x' has NaN.*sample 2",
        ),
        (
            [*make_samples(1), {"x": np.zeros((1, 3, 6, 6), np.float32)}],
            r"activation 'c' of node '\w+' \(\w+\) has NaN.*sample 1.*leave out that sample",
        ),
    ],
)
def test_bad_samples_are_named(model, samples, message):
    with pytest.raises(CalibrationError, match=message):
        calibrate(model, samples)


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("y = Conv (x, w)", (4, 7, 3, 3)),
        ("y = Conv <group = -3> (x, w)", (4, 3, 3, 3)),
        ("y = Conv <kernel_shape = [5, 5]> (x, w)", (4, 3, 3, 3)),
        ("y = Conv (x, w)", (4, 3, 9, 9)),
    ],
)
def test_a_model_that_onnxruntime_stops_at_is_an_error_of_ours(model_file, body, weights):
    text = f"""<ir_version: 8, opset_import: ["": 17]>
    net (float[N, 3, 6, 6] x) => (float[N, 4, p, q] y) {{ {body} }}"""
    model = read_onnx(model_file(text, w=np.ones(weights, np.float32)))
    with pytest.raises(ModelError, match="ONNX Runtime cannot run the float model"):
        calibrate(model, make_samples(1))
