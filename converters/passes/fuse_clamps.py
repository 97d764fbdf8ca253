"""FuseClamps: takes Relu and Clip out of the graph and leaves their bounds to the quantized range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import onnx_ir as ir

from edgekit.converters.passes.rewrite import GraphPass, Skip, bypass, constant, only_consumer, skip

_KEY = "edgekit.clamp"


@dataclass(frozen=True)
class Clamp:
    """Bounds that a value keeps to, ``lo <= 0 <= hi``, either may be infinite."""

    lo: float
    hi: float


def get_clamp(value: ir.Value) -> Clamp:
    """Returns the bounds that FuseClamps left to ``value``'s range, infinite where there are none."""
    return cast(Clamp, value.meta.get(_KEY, Clamp(-np.inf, np.inf)))


class FuseClamps(GraphPass):
    """Takes Relu and Clip out of the graph and leaves their bounds to the quantized range.

    Not a part of ``simplify``: the float graph computes something else afterwards, until its values are quantized
    over ranges within the bounds. Then the saturation of int8 is the clamp.

    Rules, where P requantizes its result (``can_clamp``) and nothing else uses it:
        ``Relu(P(...)) -> P(...)``, at least 0;
        ``Clip(P(...), lo, hi) -> P(...)``, within [lo, hi], both constant, 0 between them.

    Args:
        can_clamp: Whether a node's result will be requantized to a range of its own.
    """

    ops = frozenset({"Relu", "Clip"})

    def __init__(self, can_clamp: Callable[[ir.Node], bool]) -> None:
        super().__init__()
        self._can_clamp = can_clamp

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Removes ``node`` and hangs its bounds on what it clamps."""
        source = node.inputs[0]
        producer = None if source is None else source.producer()
        if source is None or producer is None or not self._can_clamp(producer):
            return skip(node, "what it clamps is not requantized on its own")
        if only_consumer(source) is not node:
            return skip(node, f"the output of '{producer.name}' has other users")
        bounds = clamp_of(node)
        if bounds is None:
            return skip(node, "its bounds are not constant, or 0 is not between them")
        before = get_clamp(source)
        after = Clamp(
            max(before.lo, min(bounds.lo, before.hi)), min(before.hi, max(bounds.hi, before.lo))
        )
        name = node.outputs[0].name
        if not bypass(graph, node, source):
            return skip(node, "the graph's output cannot be renamed")
        # Calibration knows the clamped value by the name it had.
        source.name = name
        source.meta[_KEY] = after
        return f"its bounds [{after.lo:g}, {after.hi:g}] went into the range of '{producer.name}'"


def clamp_of(node: ir.Node) -> Clamp | None:
    """Returns the bounds of a Relu or Clip, None where they are not known or exclude 0."""
    if node.op_type == "Relu":
        return Clamp(0.0, np.inf)
    bounds = [-np.inf, np.inf]
    for index, value in enumerate(node.inputs[1:3]):
        if value is None:
            continue
        array = constant(value)
        if array is None or array.size != 1:
            return None
        bounds[index] = float(np.asarray(array, np.float64).reshape(-1)[0])
    lo, hi = bounds
    return Clamp(lo, hi) if lo <= 0.0 <= hi and lo < hi else None
