"""Finds which channels of a float graph can be scaled without changing its answers, and which only together.

Each element of a value has a variable: the factor by which it may be multiplied. Operators that keep a factor, as Relu
does, join the variables of what they read and write; layers take the factors of both sides into their weights and so
join nothing; whatever else there is pins its variables to 1. What is left are classes of channels that have one factor
(disjoint sets), through sums, concatenations, pools and whatever only moves elements.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgekit.converters.element_sets.variables import Ids, Variables


@dataclass(frozen=True, eq=False)
class Layer:
    """A node with weights, which takes factors on both sides.

    Attributes:
        node: Conv, ConvTranspose, Gemm or MatMul.
        inputs: Variables of its input channels, ``[I]``.
        outputs: Variables of its output channels, ``[O]``.
    """

    node: ir.Node
    inputs: Ids
    outputs: Ids


@dataclass(frozen=True, eq=False)
class Norm:
    """A normalization, whose scale and bias take the factors of what it gives.

    Attributes:
        node: LayerNormalization, InstanceNormalization or BatchNormalization.
        outputs: Variables of its output channels, ``[C]``.
    """

    node: ir.Node
    outputs: Ids


@dataclass(frozen=True, eq=False)
class Operand:
    """A constant that is added to, subtracted from or compared with a value, and has its factors.

    Attributes:
        node: Add, Sub, Max or Min.
        index: Which input is the constant.
        ids: Variables of the result; they broadcast to its shape.
    """

    node: ir.Node
    index: int
    ids: Ids


@dataclass(frozen=True, eq=False)
class Bounds:
    """A Clip with constant bounds, which have the factors of what is clipped.

    Attributes:
        node: The Clip.
        ids: Variables of the result; they broadcast to its shape.
    """

    node: ir.Node
    ids: Ids


Site = Layer | Norm | Operand | Bounds


@dataclass(frozen=True, eq=False)
class Scaling:
    """Which factors the values of a graph may have.

    Attributes:
        variables: The factors and which are one.
        values: Variables of each float value; they broadcast to its shape.
        sites: Where factors are taken into constants, in graph order.
    """

    variables: Variables
    values: dict[ir.Value, Ids]
    sites: list[Site]

    def of(self, value: ir.Value) -> Ids:
        """Returns the sets of the variables of ``value``; ``PINNED`` where its factor must be 1."""
        return self.variables.roots(self.values.get(value, np.zeros((), np.int64)))

    def axis(self, value: ir.Value) -> int | None:
        """Returns the one dimension of ``value`` along which factors may differ, None where there is no such one."""
        ids = self.of(value)
        wide = [axis for axis, size in enumerate(ids.shape) if size > 1]
        return wide[0] if len(wide) == 1 and ids.any() else None

    def channels(self, value: ir.Value) -> Ids:
        """Returns the sets of the channels of ``value``, along its ``axis``."""
        return self.of(value).reshape(-1)

    def free(self) -> Ids:
        """Returns the sets that may be scaled and that layers or norms take, each once."""
        taken = [self.variables.roots(each) for site in self.sites for each in _taken(site)]
        return np.unique(np.concatenate([np.zeros(1, np.int64), *taken]))[1:]


def _taken(site: Site) -> list[Ids]:
    if isinstance(site, Layer):
        return [site.inputs, site.outputs]
    return [site.outputs] if isinstance(site, Norm) else [site.ids.reshape(-1)]
