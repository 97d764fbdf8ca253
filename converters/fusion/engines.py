"""Asks the engine that a file was written for."""

from __future__ import annotations

from pathlib import Path

from edgekit.converters.fusion.onnxruntime import report_onnxruntime
from edgekit.converters.fusion.openvino import report_openvino
from edgekit.converters.fusion.report import FusionReport
from edgekit.converters.fusion.tensorrt import report_tensorrt
from edgekit.converters.write_onnx.styles import Style, get_style


def report_fusion(path: str | Path, style: str | Style = "ort-x86") -> FusionReport:
    """Returns what the engine of ``style`` makes of a file.

    Raises:
        EdgekitError: There is no such style.
        ModelError: The engine cannot load the file.
        ToolError: The engine is not installed.
    """
    style = get_style(style)
    if style.engine == "openvino":
        return report_openvino(path)
    if style.engine == "tensorrt":
        return report_tensorrt(path)
    return report_onnxruntime(path, for_arm=style.codes == "int8")
