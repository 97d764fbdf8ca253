"""Writes a quantized graph as ONNX, in the style of the engine that is to run it."""

from edgekit.converters.write_onnx.int4 import write_int4
from edgekit.converters.write_onnx.styles import STYLES, Style, get_style
from edgekit.converters.write_onnx.write import write_onnx

__all__ = [
    "STYLES",
    "Style",
    "get_style",
    "write_int4",
    "write_onnx",
]
