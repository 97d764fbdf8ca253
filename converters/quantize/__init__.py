"""Gives a float graph its int8 codes, or says what stays float."""

from edgekit.converters.quantize.quantize import (
    INT8_WEIGHTS,
    FloatNode,
    QuantizationReport,
    get_report,
    quantize,
    set_report,
)

__all__ = [
    "INT8_WEIGHTS",
    "FloatNode",
    "QuantizationReport",
    "get_report",
    "quantize",
    "set_report",
]
