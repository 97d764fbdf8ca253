"""`deploy(rounding=)`: weights are rounded by Hessians where that was asked for, or answers closer."""

import numpy as np
import pytest

import edgekit
from edgekit.converters.read_onnx import read_onnx
from edgekit.targets.errors import EdgekitError


def deploy(cnn, images, tmp_path, **arguments):
    return edgekit.deploy(
        cnn,
        calibration=[{"image": image[None]} for image in images[:24]],
        precision="int8",
        output=tmp_path / "dist",
        **arguments,
    )


@pytest.mark.slow
def test_hessians_change_codes_and_moments_do_not(cnn, images, tmp_path):
    answers = {
        rounding: deploy(cnn, images, tmp_path / rounding, rounding=rounding)
        .load()
        .run(images[30][None])
        for rounding in ("auto", "moments", "hessian")
    }
    same = {
        name: all(
            np.array_equal(a, b)
            for a, b in zip(each.values(), answers["moments"].values(), strict=True)
        )
        for name, each in answers.items()
    }
    assert not same["hessian"]
    # Answers that are close already are left as they were.
    assert same["auto"]


@pytest.mark.slow
def test_int4_layers_are_rounded_by_hessians_and_the_report_says_so(cnn, images, tmp_path):
    source = read_onnx(cnn)
    names = [node.name for node in source.graph if node.op_type in ("Conv", "Gemm")]
    formats = dict.fromkeys(names, "int4")
    # Corrected biases would make up for some of what rounding loses.
    alone = {"formats": formats, "recover": "none"}
    moments = deploy(cnn, images, tmp_path / "a", rounding="moments", **alone)
    chosen = deploy(cnn, images, tmp_path / "b", **alone)
    assert any("rounded by the Hessian" in note for note in chosen.report.notes)
    assert chosen.report.snr_db > moments.report.snr_db + 1


def test_unknown_rounding_is_named(cnn, images, tmp_path):
    with pytest.raises(EdgekitError, match="rounding='dice' is not supported"):
        deploy(cnn, images, tmp_path, rounding="dice")
