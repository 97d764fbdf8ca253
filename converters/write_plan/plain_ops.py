"""Packs the operators on plain numbers into their tables of csrc/runtime/plan.fbs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekit._schema import plan_generated as schema
from edgekit.converters.plain_program import (
    ArgExtreme,
    Cast,
    Compare,
    Expand,
    Gather,
    IntegerBinary,
    Where,
)
from edgekit.converters.program import Op


def pack_plain_op(op: Op, index: Mapping[str, int]) -> Any:
    """Returns the table of ``op``, or None where it is no operator on plain numbers.

    Args:
        op: The operator.
        index: Position of each tensor in the plan.
    """
    y = index[op.output]
    match op:
        case Expand(input=x):
            return schema.ExpandT(index[x], y)
        case Gather(input=x, indices=indices, axis=axis):
            return schema.GatherT(index[x], index[indices], y, axis)
        case Cast(input=x):
            return schema.CastT(index[x], y)
        case Compare(a=a, b=b, comparison=comparison):
            return schema.CompareT(
                getattr(schema.Comparison, comparison.value), index[a], index[b], y
            )
        case Where(condition=condition, a=a, b=b):
            return schema.WhereT(index[condition], index[a], index[b], y)
        case IntegerBinary(a=a, b=b, operator=operator):
            code = getattr(schema.IntegerOperator, operator.value)
            return schema.IntegerBinaryT(code, index[a], index[b], y)
        case ArgExtreme(input=x, extreme=extreme, axis=axis, last=last):
            return schema.ArgExtremeT(
                getattr(schema.Extreme, extreme.value), index[x], y, axis, last
            )
    return None
