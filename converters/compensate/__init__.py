"""Rounding and removing weights so that a layer's outputs change least (docs/solver.md)."""

from edgekit.converters.compensate.fit_scales import FittedCodes, choose_scales, fit_rows, fit_runs
from edgekit.converters.compensate.hessian_file import Hessians
from edgekit.converters.compensate.masks import Blocks, Given, KeepOfGroup, Mask, Unstructured
from edgekit.converters.compensate.rounding import FEW_INPUTS, blend_hessians, round_by_hessians
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
    "FEW_INPUTS",
    "INT4",
    "INT8",
    "Blocks",
    "CodeRange",
    "Compensated",
    "FittedCodes",
    "Given",
    "Hessians",
    "KeepOfGroup",
    "Mask",
    "Solver",
    "Unstructured",
    "blend_hessians",
    "choose_scales",
    "fit_rows",
    "fit_runs",
    "round_by_hessians",
    "solve_exactly",
]
