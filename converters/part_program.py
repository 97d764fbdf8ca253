"""The operator of a lowered program that makes codes in parts: QuantizeParts of csrc/runtime/plan.fbs."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.converters.program import MAX_CODE, MIN_CODE, Unary

# What a step between the codes of one part is worth in those of the next: docs/arithmetic.md, "Codes in parts".
PARTS_OF_A_CODE = 16


@dataclass(frozen=True, eq=False, kw_only=True)
class QuantizeParts(Unary):
    """float32 to codes in parts, side by side along ``axis``, in which the output is so many times as long.

    Attributes:
        axis: Of the tensors as they lie in the plan.
        lo: Smallest code of the first part.
        hi: Largest code of the first part.
    """

    axis: int
    lo: int = MIN_CODE
    hi: int = MAX_CODE
