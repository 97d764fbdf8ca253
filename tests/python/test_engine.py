"""Deployments for boards with TensorRT: what lies in the folder, and that the answers are those of the network."""

import numpy as np
import onnx
import onnxruntime
import pytest

import edgekit
from edgekit.converters.fusion.tensorrt_rules import check_rules
from edgekit.engine_files import DLA_FILE, DLA_RANGES, SCRIPT, SETTINGS
from edgekit.targets.errors import TargetError, ToolError


def _deploy(cnn, images, output, target, **options):
    return edgekit.deploy(
        cnn,
        target=target,
        calibration=images,
        format="onnx",
        ranges="minmax",
        output=output,
        **options,
    )


def _run(path, images):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options).run(None, {"image": images})[0]


@pytest.mark.slow
@pytest.mark.parametrize(("target", "dla"), [("jetson-orin-nano", 0), ("jetson-xavier-nx", 2)])
def test_int8_boards_get_pairs_and_a_script(cnn, images, tmp_path, target, dla):
    deployed = _deploy(cnn, images, tmp_path / "out", target)
    names = {path.name for path in deployed.path.iterdir()}
    assert names == {"model.onnx", SCRIPT, SETTINGS} | ({DLA_FILE, DLA_RANGES} if dla else set())
    assert (deployed.path / SETTINGS).read_text() == f"precision=int8\ndla_cores={dla}\n"
    model = onnx.load(deployed.onnx)
    assert check_rules(model) == []
    assert model.opset_import[0].version == 17
    assert deployed.report.fusion.fused["Conv"] == 3
    assert "no engine was built" in deployed.report.fusion.runtime
    assert "symmetric" in deployed.report.ranges
    again = _deploy(cnn, images, tmp_path / "out", target)
    assert again.path == deployed.path


def test_dla_gets_the_network_in_floats_and_a_scale_for_each_value(cnn, images, tmp_path):
    deployed = _deploy(cnn, images, tmp_path / "out", "jetson-xavier-nx")
    np.testing.assert_allclose(
        _run(deployed.path / DLA_FILE, images), _run(cnn, images), rtol=1e-4, atol=1e-4
    )
    lines = (deployed.path / DLA_RANGES).read_text().splitlines()
    scales = dict(line.rsplit(": ", 1) for line in lines)
    graph = onnx.load(deployed.path / DLA_FILE).graph
    assert {"image", "logits"} <= scales.keys()
    assert scales.keys() <= {"image"} | {name for node in graph.node for name in node.output}
    image = np.array(int(scales["image"], 16), np.uint32).view(np.float32)
    assert image == pytest.approx(np.abs(images).max() / 127, rel=0.01)


def test_a_gpu_without_int8_gets_floats(cnn, images, tmp_path):
    deployed = _deploy(cnn, images, tmp_path / "out", "jetson-nano")
    model = onnx.load(deployed.onnx)
    assert not any("Linear" in node.op_type for node in model.graph.node)
    assert model.opset_import[0].version == 13
    assert (deployed.path / SETTINGS).read_text() == "precision=fp16\ndla_cores=0\n"
    np.testing.assert_allclose(_run(deployed.onnx, images), _run(cnn, images), rtol=1e-4, atol=1e-4)
    with pytest.raises(TargetError, match=r"5\.3, does not compute int8.*tensorrt-float"):
        _deploy(cnn, images, tmp_path / "other", "jetson-nano", onnx_style="tensorrt")


def test_any_board_takes_another_style(cnn, images, tmp_path):
    deployed = _deploy(cnn, images, tmp_path / "out", "host", onnx_style="tensorrt")
    assert check_rules(onnx.load(deployed.onnx)) == []
    assert (deployed.path / SCRIPT).is_file()


def test_an_engine_that_is_not_there_is_a_note(cnn, images, tmp_path, monkeypatch):
    def refuse(*_):
        raise ToolError("OpenVINO is not installed")

    monkeypatch.setattr("edgekit.describe.report_fusion", refuse)
    deployed = _deploy(cnn, images, tmp_path / "out", "host", onnx_style="openvino")
    assert deployed.report.fusion is None
    assert any("OpenVINO is not installed" in note for note in deployed.report.notes)
