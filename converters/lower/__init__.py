"""Lowers a quantized graph to the integer program of the native form."""

from edgekit.converters.lower.fuse_floats import fuse_floats
from edgekit.converters.lower.fuse_residual import fuse_residual_sums
from edgekit.converters.lower.fuse_tables import fuse_tables
from edgekit.converters.lower.lower import lower, refuse_control

__all__ = ["fuse_floats", "fuse_residual_sums", "fuse_tables", "lower", "refuse_control"]
