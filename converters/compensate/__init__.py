"""Rounding and removing weights so that a layer's outputs change least (docs/solver.md)."""

from edgekit.converters.compensate.masks import Blocks, Given, KeepOfGroup, Mask, Unstructured
from edgekit.converters.compensate.rounding import blend_hessians, round_by_hessians
from edgekit.converters.compensate.solver import (
    DAMPING,
    INT4,
    INT8,
    CodeRange,
    Compensated,
    Solver,
    solve_exactly,
)

__all__ = [
    "DAMPING",
    "INT4",
    "INT8",
    "Blocks",
    "CodeRange",
    "Compensated",
    "Given",
    "KeepOfGroup",
    "Mask",
    "Solver",
    "Unstructured",
    "blend_hessians",
    "round_by_hessians",
    "solve_exactly",
]
