"""Writes a lowered program as a TFLite file, with the schema of ai-edge-litert and flatbuffers alone."""

from edgekit.converters.tflite.about import About
from edgekit.converters.tflite.codes import Codes, WideCodes
from edgekit.converters.tflite.state import Weights
from edgekit.converters.tflite.wide_functions import leave_tables_float
from edgekit.converters.tflite.write import TfliteSummary, write_tflite

__all__ = [
    "About",
    "Codes",
    "TfliteSummary",
    "Weights",
    "WideCodes",
    "leave_tables_float",
    "write_tflite",
]
