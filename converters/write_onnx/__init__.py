"""Writes a quantized graph as ONNX, in the style of the engine that is to run it."""

from edgekit.converters.write_onnx.files import PRODUCER, data_path, size_of_onnx
from edgekit.converters.write_onnx.int4 import write_int4
from edgekit.converters.write_onnx.styles import STYLES, Style, get_style
from edgekit.converters.write_onnx.write import write_onnx

__all__ = [
    "PRODUCER",
    "STYLES",
    "Style",
    "data_path",
    "get_style",
    "size_of_onnx",
    "write_int4",
    "write_onnx",
]
