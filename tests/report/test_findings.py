"""What a report says of a real deployment, counted again by hand."""

import io
import json
import platform
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from typer.testing import CliRunner

import edgekit
from edgekit import Classification, EdgekitError, Preprocessing
from edgekit.cli import app
from edgekit.converters.calibrate import calibrate
from edgekit.converters.passes import simplify
from edgekit.converters.quantize import quantize
from edgekit.converters.read_onnx import read_onnx
from edgekit.findings import noise
from edgekit.findings.noise import add_noise
from edgekit.findings.of_bundle import report_bundle
from edgekit.findings.picture import encode_png, to_picture
from edgekit.report import parse_report
from edgekit.session import load

QUICK = {"ranges": "minmax", "precision": "int8"}
LABELS = ["<b>zero</b>", "one", "two", "three"]


@pytest.fixture(scope="module")
def named(classifier, pictures):
    """What the float network names, of which every seventh is called wrong."""
    session = load(classifier)
    right = np.array([int(session.run(p[None])["logits"].argmax()) for p in pictures])
    right[::7] = (right[::7] + 1) % 4
    return right


@pytest.fixture(scope="module")
def deployed(classifier, pictures, named, tmp_path_factory):
    groups = {"half": ["first" if i < 100 else "second" for i in range(200)]}
    return edgekit.deploy(
        classifier,
        calibration=pictures[:32],
        evaluate=Classification(pictures, named),
        groups=groups,
        max_drop=0.2,
        max_ms=1000.0,
        max_mb=0.0001,
        labels=LABELS,
        output=tmp_path_factory.mktemp("deployed") / "dist",
        **QUICK,
    )


def test_classes_and_subgroups_are_counted(deployed, classifier, pictures, named):
    evaluation = deployed.report.evaluation
    sessions = load(classifier), deployed.load()
    wanted, given = (
        np.array([int(session.run(p[None])["logits"].argmax()) for p in pictures])
        for session in sessions
    )
    whole = evaluation.whole
    assert whole.reference == (wanted == named).mean()
    assert whole.candidate == (given == named).mean()
    assert whole.changed.count == (wanted != given).sum()
    assert whole.discordant.more == ((wanted == named) & (given != named)).sum()
    for part in evaluation.classes:
        number = LABELS.index(part.name)
        assert part.candidate == (given == named)[named == number].mean()
    first, second = sorted(evaluation.groups["half"], key=lambda part: part.name)
    assert first.reference == (wanted == named)[:100].mean()
    assert second.candidate == (given == named)[100:].mean()
    for sample in deployed.report.changed:
        assert sample.picture.startswith("data:image/png;base64,")
        if sample.source == "evaluation":
            assert wanted[sample.index] != given[sample.index]
            assert sample.right_answer == LABELS[named[sample.index]]


def test_what_was_asked_is_told(deployed):
    asked = {asked.what: asked for asked in deployed.report.asked}
    assert asked["max_drop"].verdict == "kept"
    assert "confidence on 200 samples" in asked["max_drop"].how
    assert asked["max_ms"].verdict == "kept"
    assert "this machine" in asked["max_ms"].how
    assert asked["max_mb"].verdict == "broken"


def test_layers_have_a_format_and_their_noise(deployed):
    layers = {layer.name: layer for layer in deployed.report.layers}
    conv = layers["<script>alert(1)</script>"]
    assert conv.format == "int8"
    assert 10 < conv.noise_db < 100
    assert "alone" in deployed.report.noise
    # What the layers leave adds up to about what there is in all.
    power = sum(10 ** (-layer.noise_db / 10) for layer in layers.values() if layer.noise_db)
    assert -10 * np.log10(power) == pytest.approx(deployed.report.snr_db, abs=6)


def test_noise_that_would_take_too_long_is_not_measured(
    deployed, classifier, pictures, monkeypatch
):
    graph = read_onnx(classifier)
    simplify(graph)
    quantized = quantize(graph, calibrate(graph, [{"image": pictures[:1]}]))
    before = replace(deployed.report, noise="")
    told = add_noise(before, graph, quantized, [{"image": pictures[:1]}])
    assert "on 1 calibration samples" in told.noise
    monkeypatch.setattr(noise, "_LONGEST", 0.0)
    told = add_noise(before, graph, quantized, [{"image": pictures[:1]}])
    assert "runs would take about" in told.noise
    assert told.layers == before.layers


def test_memory_is_compared_with_float32(deployed):
    before, after = deployed.report.float_memory, deployed.report.memory
    assert before.arena_bytes > 2 * after.arena_bytes
    assert "not measured" not in next(
        row for row in deployed.report.to_html().split("<tr") if "memory, native" in row
    )


def test_the_page_is_whole(deployed, tmp_path):
    text = deployed.report.save_html(tmp_path / "r.html").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "&lt;b&gt;zero&lt;/b&gt;" in text
    assert parse_report(deployed.report.to_json()) == deployed.report


def test_boards_are_not_said_to_be_timed(classifier, pictures, tmp_path):
    report = edgekit.deploy(
        classifier,
        calibration=pictures[:8],
        # One whose programs came with edgekit, so that nothing is compiled.
        target="rpi5" if platform.machine() == "aarch64" else "x86-64-v3",
        max_ms=5.0,
        output=tmp_path / "dist",
        format="native",
        ranges="minmax",
    ).report
    (asked,) = report.asked
    assert asked.verdict == "not measured"
    assert not report.latencies
    text = report.to_html()
    assert "nothing was timed here" in text
    assert "Times are medians" not in text


def test_a_bundle_alone(deployed, tmp_path):
    shown = report_bundle(deployed.path, seconds=0.1)
    assert shown.made_from
    assert shown.model == deployed.report.model
    assert shown.memory == deployed.report.memory
    assert shown.accuracy == deployed.report.accuracy
    assert shown.snr_db == pytest.approx(deployed.report.snr_db, abs=0.06)
    assert shown.evaluation.whole.discordant == deployed.report.evaluation.whole.discordant
    assert [asked.verdict for asked in shown.asked] == ["not measured"] * 2
    assert all(layer.microseconds for layer in shown.layers)
    assert parse_report(shown.to_json()) == shown
    assert "than float" not in shown.to_html()
    with pytest.raises(EdgekitError, match="no such bundle or report"):
        report_bundle(tmp_path / "none")


def test_command_line(deployed, tmp_path):
    runner = CliRunner()
    file = deployed.report.save_json(tmp_path / "r.json")
    shown = runner.invoke(app, ["report", str(file)])
    assert shown.exit_code == 0, shown.output
    assert "McNemar" in shown.output
    table = json.loads(runner.invoke(app, ["report", str(file), "--json"]).output)
    assert parse_report(json.dumps(table)) == deployed.report
    page = tmp_path / "page.html"
    assert runner.invoke(app, ["report", str(deployed.path), "--html", str(page)]).exit_code == 0
    assert page.read_text().startswith("<!doctype html>")
    wrong = runner.invoke(app, ["report", str(tmp_path / "none.json")])
    assert isinstance(wrong.exception, (EdgekitError, OSError))


def test_deploy_writes_the_report(classifier, pictures, tmp_path):
    np.savez(tmp_path / "samples.npz", image=pictures[:8])
    words = ["deploy", str(classifier), "--calibration", str(tmp_path / "samples.npz")]
    words += ["-o", str(tmp_path / "dist"), "--ranges", "minmax", "--precision", "int8"]
    files = [tmp_path / "r.html", tmp_path / "r.json"]
    for file in files:
        words += ["--report", str(file)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert parse_report(files[1].read_text()).to_html() == files[0].read_text()
    assert CliRunner().invoke(app, [*words, "--report", "r.txt"]).exit_code == 2


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["day"] * 3, "of each sample once, not 3, 200"),
        ("day", "must be a name for each sample"),
        ({"a": ["x"] * 200, "b": []}, "not none"),
        (3, "must be a name for each sample"),
    ],
)
def test_groups_that_make_no_sense(classifier, pictures, named, tmp_path, groups, message):
    with pytest.raises(EdgekitError, match=message):
        edgekit.deploy(
            classifier,
            calibration=pictures[:8],
            evaluate=Classification(pictures, named),
            groups=groups,
            output=tmp_path / "dist",
        )
    assert not (tmp_path / "dist").exists()


def test_groups_need_scores(classifier, pictures, tmp_path):
    for evaluate in (None, lambda session: 1.0):
        with pytest.raises(EdgekitError, match="groups needs evaluate"):
            edgekit.deploy(
                classifier,
                calibration=pictures[:8],
                evaluate=evaluate,
                groups=["a"],
                output=tmp_path / "dist",
            )


@settings(deadline=None, max_examples=40)
@given(
    hnp.arrays(
        np.uint8,
        st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3])),
    )
)
def test_pngs_are_read_as_they_were_written(pixels):
    with Image.open(io.BytesIO(encode_png(pixels))) as picture:
        read = np.asarray(picture).reshape(pixels.shape)
        assert picture.format == "PNG"
    assert (read == pixels).all()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", ["RGB", "BGR", "L"])
def test_preprocessing_is_undone(layout, channels):
    mean = 20.0 if channels == "L" else (10.0, 20.0, 30.0)
    how = Preprocessing(size=(16, 24), mean=mean, scale=1 / 64, layout=layout, channels=channels)
    count = 1 if channels == "L" else 3
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, count), np.uint8)
    picture = Image.fromarray(pixels[..., 0] if count == 1 else pixels)
    assert (to_picture(how.apply(picture), how) == pixels).all()


def test_pictures_without_preprocessing_reach_from_black_to_white():
    values = np.linspace(-3, 5, 144, dtype=np.float32).reshape(1, 1, 12, 12)
    pixels = to_picture(values, None)
    assert pixels.shape == (12, 12, 1)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert (to_picture(np.ones((1, 12, 12, 3), np.float32), None) == 0).all()


def test_large_pictures_are_averaged():
    pixels = to_picture(np.random.default_rng(0).random((1, 3, 300, 200)), None)
    assert max(pixels.shape) <= 96
    assert pixels.shape[2] == 3


@pytest.mark.parametrize(
    "shape", [(1, 40), (1, 40, 40), (1, 7, 12, 12), (1, 1, 4, 4), (2, 1, 12, 12)]
)
def test_other_inputs_are_no_pictures(shape):
    assert to_picture(np.zeros(shape, np.float32), None) is None
    assert to_picture(np.full((1, 1, 12, 12), np.nan, np.float32), None) is None
