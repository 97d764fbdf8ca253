"""The operators of a lowered program that compute on plain numbers, one to one with tables of csrc/runtime/plan.fbs.

Their tensors hold float32, int32, int64, uint8 or bool; Expand, Gather and Where move codes as well. Operands of the
elementwise ones have the output's shape or a single element. What each computes is in docs/arithmetic.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from edgekit.converters.program import Op, Pair, Unary


@dataclass(frozen=True, eq=False, kw_only=True)
class Expand(Unary):
    """The input as numpy broadcasts it to the output's shape."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Gather(Op):
    """Dimension ``axis`` of the input gives way to the dimensions of the indices (int32 or int64)."""

    input: str
    indices: str
    axis: int

    @property
    def inputs(self) -> tuple[str, ...]:
        """The input and the indices."""
        return (self.input, self.indices)


@dataclass(frozen=True, eq=False, kw_only=True)
class Cast(Unary):
    """Numbers of one type as another."""


class Comparison(Enum):
    """Comparisons of two numbers, named as in plan.fbs."""

    EQUAL = "Equal"
    LESS = "Less"
    LESS_OR_EQUAL = "LessOrEqual"


@dataclass(frozen=True, eq=False, kw_only=True)
class Compare(Pair):
    """``a op b`` as bool; False where one of them is NaN."""

    comparison: Comparison


@dataclass(frozen=True, eq=False, kw_only=True)
class Where(Op):
    """``condition ? a : b``."""

    condition: str
    a: str
    b: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """The condition and both choices."""
        return (self.condition, self.a, self.b)


class IntegerOperator(Enum):
    """Functions of two whole numbers, or of two bools, named as in plan.fbs."""

    ADD = "Add"
    SUB = "Sub"
    MUL = "Mul"
    DIV = "Div"
    MOD = "Mod"
    MAX = "Max"
    MIN = "Min"
    AND = "And"
    OR = "Or"
    XOR = "Xor"


@dataclass(frozen=True, eq=False, kw_only=True)
class IntegerBinary(Pair):
    """``a op b`` of whole numbers, wrapping around; of bools as logic."""

    operator: IntegerOperator


class Extreme(Enum):
    """Which element an ArgExtreme looks for, named as in plan.fbs."""

    MAX = "Max"
    MIN = "Min"


@dataclass(frozen=True, eq=False, kw_only=True)
class ArgExtreme(Unary):
    """Where the extreme along ``axis`` lies, as int64; the first place, or the last."""

    extreme: Extreme
    axis: int
    last: bool = False
