"""int4 weights: codes and scales, both forms in ONNX Runtime, and what is left as it is."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.converters.calibrate import calibrate
from edgekit.converters.fusion.onnxruntime import report_onnxruntime
from edgekit.converters.hessians import gather_hessians
from edgekit.converters.read_onnx import read_onnx
from edgekit.converters.write_onnx import write_int4
from edgekit.converters.write_onnx.int4 import BLOCKS, quantize_blocks
from edgekit.targets.errors import EdgekitError

TEXT = """<ir_version: 10, opset_import: ["" : 21]>
net (float[N, 64] x) => (float[N, 5] y, float[N, 5] z) {
    a = MatMul (x, w1)
    b = Relu (a)
    c = Gemm <transB = 1> (b, w2, bias)
    y = Identity (c)
    d = MatMul (c, w3)
    s = Transpose <perm = [1, 0]> (d)
    e = MatMul (d, s)
    f = MatMul (e, d)
    z = Add (f, c)
}"""
RNG = np.random.default_rng(2)
WEIGHTS = {
    "w1": RNG.normal(size=(64, 96)).astype(np.float32),
    "w2": RNG.normal(size=(5, 96)).astype(np.float32),
    "w3": RNG.normal(size=(5, 5)).astype(np.float32),
    "bias": RNG.normal(size=5).astype(np.float32),
}


def _run(path, inputs):
    options = onnxruntime.SessionOptions()
    # Where it fuses, ONNX Runtime would round activations to int8 as well.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    return onnxruntime.InferenceSession(path, options).run(None, inputs)


@given(block=st.sampled_from(BLOCKS), blocks=st.integers(1, 3), seed=st.integers(0, 99))
def test_codes_are_near_and_no_scale_reaches_too_far(block, blocks, seed):
    weight = np.random.default_rng(seed).normal(size=(block * blocks, 3)).astype(np.float32)
    weight[:, 0] = 0
    codes, scales = quantize_blocks(weight, block)
    assert codes.dtype == np.int8
    assert codes.min() >= -8
    assert codes.max() <= 7
    assert scales.shape == (blocks, 3)
    assert (scales > 0).all()
    assert not codes[:, 0].any()
    spread = np.repeat(scales, block, axis=0)
    inside = (weight / spread > -8) & (weight / spread < 7)
    assert (np.abs(codes * spread - weight)[inside] <= 0.5001 * spread[inside]).all()
    # Never worse than the scale that reaches every weight.
    parts = weight.reshape(blocks, block, 3)
    whole = np.maximum(parts.max(axis=1) / 7, parts.min(axis=1) / -8)
    whole = np.repeat(np.where(whole > 0, whole, 1), block, axis=0)
    plain = np.rint(weight / whole).clip(-8, 7) * whole
    assert ((codes * spread - weight) ** 2).sum() <= ((plain - weight) ** 2).sum() * (1 + 1e-6)


def test_weights_on_the_grid_are_kept():
    codes = RNG.integers(-8, 8, (64, 4)).astype(np.int8)
    codes[0], codes[32] = -8, -8
    scales = RNG.uniform(0.5, 2, (2, 4)).astype(np.float32)
    weight = codes * np.repeat(scales, 32, axis=0)
    found, again = quantize_blocks(weight, 32)
    np.testing.assert_array_equal(found, codes)
    np.testing.assert_allclose(again, scales, rtol=1e-6)


def test_both_forms_agree(model_file, tmp_path):
    model = read_onnx(model_file(TEXT, **WEIGHTS))
    x = {"x": RNG.normal(size=(3, 64)).astype(np.float32)}
    answers = []
    for form in ("blockwise", "nbits"):
        path = tmp_path / f"{form}.onnx"
        report = write_int4(model, path, form=form)
        assert len(report.written) == 2
        assert sorted(report.left.values()) == [
            "its 5 inputs are no multiple of 32",
            "its weights are computed",
            "its weights are computed",
        ]
        fused = {node.name for node in report_onnxruntime(path).fused}
        # ONNX Runtime 1.31 fuses the one behind which a sum stands, and leaves the other.
        assert fused >= ({"c"} if form == "blockwise" else {"a", "c"})
        answers.append(_run(path, x))
    for blockwise, nbits in zip(*answers, strict=True):
        np.testing.assert_allclose(blockwise, nbits, rtol=1e-4, atol=1e-4)


def test_answers_are_those_of_the_rounded_weights(model_file, tmp_path):
    model = read_onnx(model_file(TEXT, **WEIGHTS))
    write_int4(model, tmp_path / "net.onnx", block=32)
    rounded = dict(WEIGHTS)
    for name in ("w1", "w2"):
        weight = WEIGHTS[name] if name == "w1" else WEIGHTS[name].T
        codes, scales = quantize_blocks(np.ascontiguousarray(weight), 32)
        real = (codes * np.repeat(scales, 32, axis=0)).astype(np.float32)
        rounded[name] = real if name == "w1" else np.ascontiguousarray(real.T)
    x = {"x": RNG.normal(size=(3, 64)).astype(np.float32)}
    plain = model_file(TEXT, name="plain.onnx", **rounded)
    results = [_run(p, x)[0] for p in (plain, tmp_path / "net.onnx")]
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-4)
    kinds = {t.name: t.data_type for t in onnx.load(tmp_path / "net.onnx").graph.initializer}
    assert "w1" not in kinds
    assert list(kinds.values()).count(onnx.TensorProto.INT4) == 2


@pytest.mark.parametrize(
    ("options", "message"), [({"form": "bits"}, "'bits'"), ({"block": 48}, "48")]
)
def test_unknown_forms_and_blocks_are_refused(model_file, tmp_path, options, message):
    model = read_onnx(model_file(TEXT, **WEIGHTS))
    with pytest.raises(EdgekitError, match=message):
        write_int4(model, tmp_path / "net.onnx", **options)


def test_products_are_decided_by_their_hessians(model_file, tmp_path):
    """Answers to samples that took no part are closer than with the nearest codes."""
    rng = np.random.default_rng(8)
    source = model_file(TEXT, **WEIGHTS)
    model = read_onnx(source)
    mix = rng.normal(size=(64, 64)) * np.geomspace(1, 0.05, 64)
    samples = [{"x": (rng.normal(size=(5, 64)) @ mix).astype(np.float32)} for _ in range(120)]
    calibration = calibrate(model, samples)
    hessians = gather_hessians(model, samples[:80], calibration, tmp_path / "kept")
    plain, decided = tmp_path / "plain.onnx", tmp_path / "decided.onnx"
    write_int4(model, plain)
    write_int4(model, decided, hessians=hessians)
    errors = []
    for path in (plain, decided):
        wanted = [_run(source, each)[0] for each in samples[80:]]
        given = [_run(path, each)[0] for each in samples[80:]]
        errors.append(sum(((a - b) ** 2).sum() for a, b in zip(wanted, given, strict=True)))
    assert errors[1] < 0.7 * errors[0]
