"""What engines make of written files: functions that are unfolded, values that are gone, int8 on Arm, OpenVINO."""

import numpy as np
import pytest

from edgekit.converters.fusion import FUSIBLE, report_fusion
from edgekit.converters.write_onnx import write_onnx
from edgekit.targets.errors import ModelError, ToolError


def _branching(graph_builder):
    builder = graph_builder()
    x = builder.input([1, 3, 12, 12])
    a = builder.conv(x, 3, 8, pads=[1, 1, 1, 1], low=0.0)
    b = builder.conv(a, 8, 8, (1, 1))
    c = builder.node("Add", [a, b])
    d = builder.node("Concat", [c, a], -3, 3, axis=1)
    e = builder.node("MaxPool", [d], like=d, kernel_shape=[2, 2], strides=[2, 2])
    f = builder.node("AveragePool", [e], -2, 2, kernel_shape=[2, 2])
    g = builder.node("GlobalAveragePool", [f], -1, 1)
    return builder.build(builder.gemm(builder.node("Flatten", [g], like=g), 16, 10))


@pytest.mark.parametrize("style", ["ort-x86", "ort-arm"])
def test_every_fusible_operator_is_fused(graph_builder, tmp_path, style):
    path = write_onnx(_branching(graph_builder), tmp_path / "net.onnx", style=style)
    report = report_fusion(path, style)
    assert not report.left_float
    assert report.share == 1.0
    counts = report.count()
    assert counts.keys() == FUSIBLE - {"MatMul"}
    assert all(fused == there for fused, there in counts.values())


def test_a_function_that_is_unfolded_stays_float(graph_builder, tmp_path):
    """ONNX Runtime replaces HardSwish by other operators: its name is gone, and nothing of it runs on codes."""
    builder = graph_builder()
    x = builder.conv(builder.input([1, 3, 6, 6]), 3, 4)
    y = builder.node("HardSwish", [x], -0.4, 3)
    model = builder.build(builder.conv(y, 4, 4, (1, 1)))
    report = report_fusion(write_onnx(model, tmp_path / "net.onnx", style="ort-x86"))
    assert [node.op_type for node in report.left_float] == ["HardSwish"]
    assert report.share == pytest.approx(2 / 3)


def test_a_chain_between_two_roundings_is_float_as_a_whole(graph_builder, tmp_path):
    builder = graph_builder()
    x = builder.conv(builder.input([1, 3, 6, 6]), 3, 4)
    gate = builder.node("HardSigmoid", [x])
    gate.meta.clear()
    product = builder.node("Mul", [gate, builder.constant(np.float32(1.5))], 0, 1.5)
    model = builder.build(builder.conv(product, 4, 4, (1, 1)))
    report = {
        n.op_type: n
        for n in report_fusion(write_onnx(model, tmp_path / "a.onnx", style="ort-x86")).nodes
    }
    assert "stays float32" in report["HardSigmoid"].reason
    assert "between HardSigmoid 'hardsigmoid_1' and it" in report["Mul"].reason


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"")
    with pytest.raises(ModelError, match=r"net\.onnx"):
        report_fusion(path)


def test_openvino_executes_every_layer_on_codes(graph_builder, tmp_path):
    pytest.importorskip("openvino")
    path = write_onnx(_branching(graph_builder), tmp_path / "net.onnx", style="openvino")
    report = report_fusion(path, "openvino")
    assert report.runtime.startswith("openvino ")
    assert all(fused == there for fused, there in report.count().values()), report.left_float


@pytest.mark.parametrize(
    ("ending", "message", "kind"),
    [
        ("os.kill(os.getpid(), 11)", "was ended by SIGSEGV", ModelError),
        ("sys.exit('no such operator')", "cannot compile net.onnx: no such operator", ModelError),
        ("sys.exit(3)", "not installed", ToolError),
    ],
)
def test_openvino_ends_alone(graph_builder, tmp_path, monkeypatch, ending, message, kind):
    """What ends OpenVINO's process is an error in words, not the end of a deployment."""
    path = write_onnx(_branching(graph_builder), tmp_path / "net.onnx", style="openvino")
    (tmp_path / "stand_in.py").write_text(f"import os, sys\n{ending}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("edgekit.converters.fusion.openvino.openvino_layers.__name__", "stand_in")
    with pytest.raises(kind, match=message):
        report_fusion(path, "openvino")
