"""Layers' weights as matrices: a row for each output channel, k along its inputs as kernels read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.passes.rewrite import attribute, constant
from edgekit.converters.quantizable import LAYERS, RECURRENT, is_depthwise, output_axis

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Matrix:
    """Where the weights of a layer lie.

    Attributes:
        node: The layer.
        name: Of its weights' value.
        shape: Of the tensor.
        axis: The dimension of its output channels.
    """

    node: ir.Node
    name: str
    shape: tuple[int, ...]
    axis: int

    def fold(self, tensor: Array) -> Array:
        """Returns a tensor of this shape as ``[n, k]``, channels of one tap after the other."""
        moved = np.moveaxis(tensor, self.axis, 0)
        moved = np.moveaxis(moved, 1, -1)
        return moved.reshape(self.shape[self.axis], -1)

    def unfold(self, matrix: Array) -> Array:
        """Returns ``[n, k]`` as a tensor of this shape."""
        others = [size for axis, size in enumerate(self.shape) if axis != self.axis]
        moved = matrix.reshape(self.shape[self.axis], *others[1:], others[0])
        return np.ascontiguousarray(np.moveaxis(np.moveaxis(moved, -1, 1), 0, self.axis))


def find_matrices(nodes: list[ir.Node]) -> Iterator[Matrix]:
    """Yields the matrix of each dense layer with constant float32 weights; not those of a depthwise convolution."""
    for node in nodes:
        if node.domain or node.op_type not in LAYERS or len(node.inputs) < 2:
            continue
        weight = node.inputs[1]
        array = constant(weight)
        if weight is None or array is None or array.dtype != np.float32 or array.ndim < 2:
            continue
        if is_depthwise(node) or (
            node.op_type == "ConvTranspose" and attribute(node, "group", 1) > 1
        ):
            continue
        yield Matrix(node, str(weight.name), array.shape, output_axis(node))


def weight_names(nodes: list[ir.Node]) -> set[str]:
    """Returns the names of all constants that layers multiply with, recurrent and depthwise ones too."""
    found = set()
    for node in nodes:
        indices = (1,) if node.op_type in LAYERS else (1, 2) if node.op_type in RECURRENT else ()
        for index in indices:
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is not None and constant(value) is not None:
                found.add(str(value.name))
    return found
