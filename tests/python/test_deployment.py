"""The whole way on a small network, and every mistake that `deploy` refuses."""

import errno
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import edgekit
from edgekit import EdgekitError, ModelError, _native
from edgekit.bundles.bundle import read_bundle
from edgekit.bundles.bundle_file import pack_bundle
from edgekit.bundles.verify import verify
from edgekit.converters.answers import same_answer
from edgekit.converters.calibrate import METHODS
from edgekit.deployed import FLOAT_FORM, NATIVE_FORM, ONNX_FORM
from edgekit.inspection import inspect
from edgekit.session import NativeSession, OnnxSession, load


def test_folder_is_a_bundle_with_both_forms(deployment):
    bundle = read_bundle(deployment.path)
    assert "model.onnx" in bundle.files
    assert bundle.target.name == "host"
    assert bundle.target.isa == _native.best_isa()
    assert bundle.origin["source_digest"] == deployment.report.source_digest
    assert bundle.versions["edgekit"] == edgekit.__version__


def test_forms_answer_as_float_does(deployment, cnn, images):
    float_session = load(cnn)
    native, int8 = deployment.load(), load(deployment.onnx)
    assert isinstance(native, NativeSession)
    assert isinstance(int8, OnnxSession)
    wanted = float_session.run(images)
    for session in (native, int8):
        outputs = session.run({"image": images})
        scale = np.abs(wanted["logits"]).max()
        assert np.abs(outputs["logits"] - wanted["logits"]).max() < 0.1 * scale


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 8, 11])
def test_native_form_takes_any_number_of_samples(cnn, images, tmp_path, count):
    deployed = edgekit.deploy(
        cnn,
        calibration=images,
        output=tmp_path / "b4",
        batch=4,
        ranges="minmax",
        precision="int8",
    )
    single = edgekit.deploy(
        cnn, calibration=images, output=tmp_path / "b1", ranges="minmax", precision="int8"
    )
    together = deployed.load(threads=2).run(images[:count])["logits"]
    apart = single.load().run(images[:count])["logits"]
    assert together.shape == (count, 10)
    np.testing.assert_array_equal(together, apart)


def test_same_inputs_give_the_same_bytes(cnn, images, tmp_path):
    digests = []
    for name in ("a", "b"):
        edgekit.deploy(
            cnn,
            calibration=images,
            output=tmp_path / name,
            format=["native", "onnx"],
            precision="int8",
        )
        bundle = read_bundle(tmp_path / name)
        digests.append((bundle.files, (tmp_path / name / "manifest.json").read_bytes()))
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_bytes_do_not_tell_where_things_lay(cnn, images, tmp_path):
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(cnn, tmp_path / name / "cnn.onnx")
        np.savez(tmp_path / name / "samples.npz", image=images)
        edgekit.deploy(
            tmp_path / name / "cnn.onnx",
            calibration=tmp_path / name / "samples.npz",
            output=tmp_path / name / "dist",
            ranges="minmax",
            precision="int8",
        )
        files.append(
            pack_bundle(tmp_path / name / "dist", tmp_path / f"{name}.edgekit").read_bytes()
        )
    assert files[0] == files[1]


@pytest.mark.slow
def test_order_of_samples_does_not_matter(cnn, images, tmp_path):
    plans = []
    for name, samples in (("a", images), ("b", images[::-1])):
        deployed = edgekit.deploy(
            cnn,
            calibration=samples,
            output=tmp_path / name,
            ranges="mse",
            precision="int8",
        )
        plans.append(deployed.plan.read_bytes())
    assert plans[0] == plans[1]


def test_report_is_measured(deployment, cnn):
    report = deployment.report
    facts = json.loads(report.to_json())
    assert {size.form: size.bytes for size in report.sizes} == {
        "float, ONNX": cnn.stat().st_size,
        "int8, ONNX": deployment.onnx.stat().st_size,
        "int8, native": deployment.plan.stat().st_size,
    }
    assert [latency.form for latency in report.latencies] == [FLOAT_FORM, ONNX_FORM, NATIVE_FORM]
    assert all(latency.timing.median_ms > 0 for latency in report.latencies)
    assert report.memory.arena_bytes >= report.memory.lower_bound_bytes > 0
    assert report.ranges in METHODS
    assert report.fusion.fused["Conv"] == 3
    kinds = {layer.kind for layer in report.layers}
    assert kinds >= {"Conv", "DepthwiseConv"}
    # Where both take the same time, the clock decides.
    assert kinds & {"FullyConnected", "FloatFullyConnected"}
    assert report.agreement.total == 32
    assert facts["agreement"]["count"] == report.agreement.count
    assert facts["versions"]["onnxruntime"]
    for words in ("int8, native", "times the lower bound", "DepthwiseConv", "95 % interval"):
        assert words in str(report)


def test_agreement_is_counted_on_the_samples(deployment, cnn, images):
    float_session, native = load(cnn), deployment.load()
    same = [
        same_answer(float_session.run(image[None]), native.run(image[None])) for image in images
    ]
    assert deployment.report.agreement.count == sum(same)


def test_slower_than_float_is_said(deployment, monkeypatch):
    from edgekit.measure_deployed import measure_deployed
    from edgekit.report import Latency
    from edgekit.timing import Timing

    def measured(self, threads, *, seconds=3.0):
        times = {FLOAT_FORM: 1.0, ONNX_FORM: 0.5, NATIVE_FORM: 2.0}
        return [Latency(form, Timing(t, t, t, 15, 1)) for form, t in times.items()]

    monkeypatch.setattr(edgekit.Deployment, "benchmark", measured)
    unmeasured = replace(deployment, report=replace(deployment.report, notes=[]))
    assert measure_deployed(unmeasured, 1).notes == [
        "SLOWER THAN FLOAT: int8, native takes 2 ms, float, ONNX Runtime 1 ms (threads: 1)"
    ]


def test_latency_of_another_board_is_not_invented(cnn, images, tmp_path):
    deployed = edgekit.deploy(
        cnn,
        calibration=images,
        target="rpi5",
        format="onnx",
        output=tmp_path / "o",
        ranges="minmax",
    )
    assert deployed.report.latencies == []
    assert any("latency was not measured" in note for note in deployed.report.notes)
    assert deployed.plan is None
    types = {init.data_type for init in onnx.load(deployed.onnx).graph.initializer}
    assert onnx.TensorProto.INT8 in types
    assert onnx.TensorProto.UINT8 not in types


@pytest.mark.slow
def test_evaluate_sees_both_models(cnn, images, tmp_path):
    seen = []

    def evaluate(session):
        seen.append(type(session))
        return float(session.run(images)["logits"].shape[0])

    deployed = edgekit.deploy(
        cnn, calibration=images, evaluate=evaluate, max_drop=0.0, output=tmp_path / "o"
    )
    # With a promise the plans that a search finds are measured too.
    assert seen[0] is OnnxSession
    assert len(seen) > 1
    assert set(seen[1:]) == {NativeSession}
    assert deployed.report.accuracy.drop == 0
    assert "drop 0" in str(deployed.report)


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.5, float("nan")])
def test_too_large_a_drop_writes_nothing(cnn, images, tmp_path, value):
    def evaluate(session):
        return 1.0 if isinstance(session, OnnxSession) else value

    with pytest.raises(edgekit.AccuracyError, match=r"max_drop=0\.1"):
        edgekit.deploy(
            cnn, calibration=images, evaluate=evaluate, max_drop=0.1, output=tmp_path / "o"
        )
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_checkpoint_continues(cnn, images, tmp_path):
    stages = []
    for name in ("a", "b"):
        deployed = edgekit.deploy(
            cnn,
            calibration=images,
            checkpoint=tmp_path / "calibration.npz",
            output=tmp_path / name,
            # Else layers whose times are close may be float32 in one of them.
            precision="int8",
            progress=lambda stage, done, total: stages.append((stage, done, total)),
        )
        assert deployed.calibration.samples == 32
    calibrating = [stage for stage in stages if stage[0] == "calibrating"]
    assert calibrating == [("calibrating", i + 1, 32) for i in range(32)]
    assert (tmp_path / "a/model.plan").read_bytes() == (tmp_path / "b/model.plan").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"target": "rpi6"}, edgekit.TargetError, "rpi5"),
        ({"calibration": None}, edgekit.CalibrationError, "needs calibration data"),
        ({"quantize": "int2"}, edgekit.EdgekitError, "quantize='int2' is not supported.*int8"),
        ({"prune": "most"}, edgekit.EdgekitError, "prune='most' is not supported.*none"),
        ({"ranges": "guess"}, edgekit.EdgekitError, "ranges='guess'"),
        ({"format": "gguf"}, edgekit.EdgekitError, "format='gguf'"),
        ({"format": []}, edgekit.EdgekitError, "format must name"),
        ({"max_drop": 1.5}, edgekit.EdgekitError, "share of answers"),
        ({"batch": 0}, edgekit.EdgekitError, "at least 1"),
        ({"threads": 0}, edgekit.EdgekitError, "at least 1"),
        ({"batch": "2"}, edgekit.EdgekitError, "whole number"),
        ({"threads": 99999}, edgekit.EdgekitError, "at most 1024"),
        ({"model": "missing.onnx"}, edgekit.ModelError, "missing.onnx"),
    ],
)
def test_mistakes_are_named(cnn, images, tmp_path, arguments, error, words):
    given = {"model": cnn, "calibration": images, "output": tmp_path / "o"} | arguments
    with pytest.raises(error, match=words):
        edgekit.deploy(given.pop("model"), **given)
    assert not (tmp_path / "o").exists()


def test_file_that_is_not_onnx(images, tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(edgekit.ModelError, match=r"a\.onnx"):
        edgekit.deploy(path, calibration=images, output=tmp_path / "o")


def test_wrong_shape_names_input_and_shapes(cnn, images, tmp_path):
    with pytest.raises(
        edgekit.CalibrationError, match=r"image.*\[any, 3, 16, 16\].*\[1, 3, 8, 16\]"
    ):
        edgekit.deploy(cnn, calibration=images[:, :, :8], output=tmp_path / "o")


def test_folder_that_holds_something_else_is_left_alone(cnn, images, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for form in ("native", "onnx"):
        with pytest.raises(edgekit.EdgekitError, match="not overwritten"):
            edgekit.deploy(cnn, calibration=images, output=tmp_path, format=form, ranges="minmax")
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("form", ["native", "onnx"])
def test_files_of_ones_own_in_a_former_deployment_are_kept(cnn, images, tmp_path, form):
    options = {"calibration": images, "output": tmp_path / "out", "ranges": "minmax"}
    edgekit.deploy(cnn, format=form, **options)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(edgekit.EdgekitError, match="not overwritten"):
        edgekit.deploy(cnn, format=form, **options)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_manifest_of_others_makes_no_bundle(cnn, images, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "index.js").write_text("mine")
    (tmp_path / "manifest.json").write_text('{"name": "a web application"}')
    with pytest.raises(edgekit.EdgekitError, match="not overwritten"):
        edgekit.deploy(cnn, calibration=images, output=tmp_path, ranges="minmax")
    assert (tmp_path / "src" / "index.js").read_text() == "mine"


@pytest.mark.parametrize("form", ["native", "onnx"])
def test_what_is_read_is_not_overwritten(cnn, images, tmp_path, form):
    source = tmp_path / "out" / "model.onnx"
    source.parent.mkdir()
    source.write_bytes(cnn.read_bytes())
    with pytest.raises(edgekit.EdgekitError, match="which is read"):
        edgekit.deploy(source, calibration=images, output=source.parent, format=form)
    assert source.read_bytes() == cnn.read_bytes()


@pytest.mark.slow
def test_one_form_replaces_another(cnn, images, tmp_path):
    for form in ("onnx", "native", "onnx"):
        deployed = edgekit.deploy(
            cnn, calibration=images, output=tmp_path / "out", format=form, ranges="minmax"
        )
        assert (deployed.onnx is None) == (form == "native")
        assert (deployed.plan is None) == (form == "onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_output_behind_a_link_is_written_where_it_points(cnn, images, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    edgekit.deploy(cnn, calibration=images, output=tmp_path / "link", ranges="minmax")
    assert (tmp_path / "link").is_symlink()
    assert read_bundle(tmp_path / "real").plan.is_file()


def test_output_that_cannot_be_written_is_refused_first(cnn, tmp_path):
    (tmp_path / "file").write_text("mine")
    for output in (tmp_path / "file", tmp_path / "file" / "sub", "/proc/edgekit/out"):
        with pytest.raises(edgekit.EdgekitError, match=r"not overwritten|cannot be written"):
            edgekit.deploy(cnn, calibration="there is no such folder", output=output)


def test_samples_in_batches_calibrate(cnn, images, tmp_path):
    batches = ({"image": images[begin : begin + 4]} for begin in range(0, 8, 4))
    deployed = edgekit.deploy(cnn, calibration=batches, output=tmp_path / "out", ranges="minmax")
    assert deployed.load().run(images[:3])["logits"].shape == (3, 10)


@pytest.mark.parametrize("name", ["a.plan", "a.onnx", "a.txt", "missing.plan", "folder"])
def test_load_refuses_what_is_no_network(tmp_path, name):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif not name.startswith("missing"):
        path.write_bytes(b"nothing")
    with pytest.raises(edgekit.EdgekitError, match=name):
        load(path)


def test_run_refuses_inputs_that_do_not_fit(deployment, images):
    for session in (deployment.load(), load(deployment.onnx)):
        with pytest.raises(edgekit.EdgekitError, match="inputs are image"):
            session.run({"picture": images})
        with pytest.raises(edgekit.EdgekitError):
            session.run(images[:, :, :8])
        with pytest.raises(edgekit.EdgekitError, match="input 'image' takes float32, not bool"):
            session.run(images > 0)
    with pytest.raises(edgekit.EdgekitError, match="threads"):
        deployment.load(threads=0)


def test_run_converts_numbers_for_either_form(deployment, images):
    for session in (deployment.load(), load(deployment.onnx)):
        expected = session.run(images)["logits"]
        np.testing.assert_array_equal(session.run(images.astype(np.float64))["logits"], expected)


def test_a_plan_for_another_cpu_is_named(deployment, monkeypatch):
    def refuse(plan, threads):
        raise edgekit.PlanError("the plan needs another CPU")

    monkeypatch.setattr(edgekit._native, "Session", refuse)
    with pytest.raises(edgekit.PlanError, match=r"model\.plan: the plan needs another CPU"):
        deployment.load()


def test_an_onnx_form_alone_is_inspected_and_verified_as_far_as_can_be(cnn, images, tmp_path):
    folder = tmp_path / "onnx"
    edgekit.deploy(cnn, calibration=images, output=folder, format="onnx", ranges="minmax")
    facts = inspect(folder)
    assert facts["operators"]["DequantizeLinear"] > 5
    assert facts["bytes"] == (folder / "model.onnx").stat().st_size
    found = verify(folder)
    assert found.ok
    assert "no golden vectors" in str(found)
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.onnx: not valid ONNX"):
        verify(folder)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", ["native", "onnx"]])
def test_weights_beyond_protobufs_limit_come_along(images, tmp_path, monkeypatch, format):
    monkeypatch.setattr("edgekit.converters.write_onnx.files._MAX_PROTOBUF_BYTES", 1000)
    weight = np.random.default_rng(0).normal(0, 0.3, (64, 3, 3, 3)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["image", "weight"], ["features"], "conv")],
        "wide",
        [onnx.helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 16, 16])],
        [onnx.helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 64, 14, 14])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    opsets = [onnx.helper.make_opsetid("", 18)]
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "wide.onnx"
    )
    for _ in range(2):  # The second replaces the first.
        deployed = edgekit.deploy(
            tmp_path / "wide.onnx",
            calibration=images,
            output=tmp_path / "out",
            format=format,
            ranges="minmax",
        )
    size = {size.form: size.bytes for size in deployed.report.sizes}["int8, ONNX"]
    files = [tmp_path / "out/model.onnx", tmp_path / "out/model.onnx.data"]
    assert size == sum(file.stat().st_size for file in files)
    assert load(files[0]).run(images[:2])["features"].shape == (2, 64, 14, 14)


def test_a_full_disk_is_called_so(cnn, images, tmp_path, monkeypatch):
    def fill(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("onnx_ir.save", fill)
    with pytest.raises(EdgekitError, match=r"the disk is full.*TMPDIR"):
        edgekit.deploy(cnn, calibration=images, output=tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr("numpy.savez_compressed", fill)
    with pytest.raises(EdgekitError, match=r"learned: the disk is full: .*checkpoint elsewhere"):
        edgekit.deploy(
            cnn, calibration=images, output=tmp_path / "out", checkpoint=tmp_path / "learned"
        )
    assert not list(tmp_path.iterdir())


def test_a_constant_output_of_strings_is_kept(cnn, images, tmp_path):
    model = onnx.load(cnn)
    labels = onnx.helper.make_tensor("labels", TensorProto.STRING, [2], [b"cat", b"dog"])
    model.graph.initializer.append(labels)
    info = onnx.helper.make_tensor_value_info("labels", TensorProto.STRING, [2])
    model.graph.output.insert(0, info)
    onnx.save(model, tmp_path / "labelled.onnx")
    deployed = edgekit.deploy(
        tmp_path / "labelled.onnx", calibration=images, output=tmp_path / "out", format="onnx"
    )
    assert deployed.load().run(images[:1])["labels"].tolist() == ["cat", "dog"]


def test_inputs_that_differ_in_their_leading_dimension(tmp_path):
    """As a recurrent network's frame [1, n] and state [2, 1, n]: neither's first dimension is a batch."""
    shapes = {"frame": [1, 16], "state": [2, 1, 16]}
    values = [
        onnx.helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()
    ]
    results = [
        onnx.helper.make_tensor_value_info(f"{n}.next", TensorProto.FLOAT, s)
        for n, s in shapes.items()
    ]
    nodes = [onnx.helper.make_node("Relu", [n], [f"{n}.next"], f"{n}.relu") for n in shapes]
    graph = onnx.helper.make_graph(nodes, "recurrent", values, results)
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9
    )
    onnx.save(model, tmp_path / "recurrent.onnx")
    random = np.random.default_rng(3)
    samples = [{n: random.normal(size=s).astype(np.float32) for n, s in shapes.items()}] * 4
    deployed = edgekit.deploy(
        tmp_path / "recurrent.onnx", calibration=samples, output=tmp_path / "dist", format="native"
    )
    session = deployed.load()
    assert [spec.shape for spec in session.inputs] == [(1, 16), (2, 1, 16)]
    outputs = session.run(samples[0])
    for name, array in samples[0].items():
        np.testing.assert_allclose(outputs[f"{name}.next"], array.clip(min=0), atol=0.05)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"format": "native", "onnx_style": "ort-x86"}, "onnx_style is for format='onnx'"),
        ({"format": "onnx", "states": {"a": "b"}}, "states is for format='native'"),
        ({"format": "onnx", "labels": ["cat"]}, "labels is for format='native' or 'tflite'"),
        ({"format": 3}, "format must be a name or names, not 3"),
    ],
)
def test_what_no_form_would_heed_is_refused(cnn, images, tmp_path, given, message):
    with pytest.raises(EdgekitError, match=message):
        edgekit.deploy(cnn, calibration=images, output=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()
