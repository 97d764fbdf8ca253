"""Writes an integer program as a plan, the file that the native runtime maps."""

from edgekit.converters.write_plan.write import (
    FORMAT_VERSION,
    HEADER_SIZE,
    MAGIC,
    PlanSummary,
    make_file,
    write_plan,
)

__all__ = [
    "FORMAT_VERSION",
    "HEADER_SIZE",
    "MAGIC",
    "PlanSummary",
    "make_file",
    "write_plan",
]
