"""Which layers have weights that can be pruned inside, and these as the matrix ``[n, k]`` that kernels read."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.prune.break_even import Shape
from edgekit.converters.prune.channels.rows import Doubles, LayerRows, find_rows
from edgekit.converters.quantizable import LAYERS, RECURRENT

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Matrix:
    """The weights of a layer of one group, its input's taps and channels in the order of kernels.

    Attributes:
        layer: The layer.
        shape: Of its product; m is 0 where dimensions are open.
    """

    layer: LayerRows
    shape: Shape

    @property
    def name(self) -> str:
        """The node's."""
        return str(self.layer.node.name)

    @property
    def order(self) -> npt.NDArray[np.intp]:
        """The place of each column in the order of the node's own weights: all channels of a tap, then the next tap."""
        taps = self.layer.taps
        return np.arange(self.shape.k).reshape(-1, taps).T.reshape(-1)

    def read(self) -> Doubles:
        """Returns the weights, ``[n, k]``."""
        return np.ascontiguousarray(self.layer.weights[0][:, self.order])

    def restore(self, columns: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """Returns what lies in the order of kernels, ``[n, k]``, as `LayerRows` has it, ``[1, n, k]``."""
        found = np.empty_like(columns)
        found[:, self.order] = columns
        return found[None]


def find_matrices(
    model: ir.Model, dense: Collection[str] = (), asked: Collection[str] = ()
) -> tuple[list[Matrix], dict[str, str]]:
    """Returns the layers of a simplified float graph whose weights may be pruned inside, and why others may not.

    Layers that read an input of the graph stay dense, and depthwise ones: they have few weights, each of which matters.

    Args:
        model: The graph.
        dense: Names of nodes that stay dense.
        asked: Names of nodes that may be pruned although they read an input of the graph.

    Returns:
        The layers in graph order, and by the names of the others the reason.
    """
    found, reasons = [], {}
    inputs = {value.name for value in model.graph.inputs}
    for node in model.graph:
        name = node.name or ""
        if node.op_type not in LAYERS | RECURRENT:
            continue
        layer = find_rows(node)
        if node.name in dense:
            reasons[name] = "it was to stay dense"
        elif node.op_type in RECURRENT or node.op_type == "ConvTranspose":
            reasons[name] = f"least squares do not know a {node.op_type}"
        elif layer is None:
            reasons[name] = "its weights are not constant"
        elif layer.patches.groups > 1:
            reasons[name] = "its channels are in groups"
        elif layer.source in inputs and name not in asked:
            reasons[name] = "it reads an input of the network"
        else:
            found.append(Matrix(layer, _find_shape(layer)))
    return found, reasons


def _find_shape(layer: LayerRows) -> Shape:
    shape = layer.node.outputs[0].shape
    sizes = [] if shape is None else list(shape)
    places = sizes[2:] if layer.patches.is_image else sizes[:-1]
    known = [size for size in places if isinstance(size, int)]
    return Shape(math.prod(known), layer.patches.depth, layer.weights.shape[1])
