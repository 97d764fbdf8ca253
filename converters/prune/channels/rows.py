"""What a layer's weights multiply, as rows of a matrix, at places that are drawn: for least squares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.compensate.layers import Patches, find_patches
from edgekit.converters.passes.rewrite import attribute, constant

# Beyond it, least squares take too long and too much memory.
_MOST_DEPTH = 6144

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LayerRows:
    """A layer as ``y = x W^T + b`` for each row x of its input, group by group of channels.

    Attributes:
        node: Conv, Gemm or MatMul with constant weights.
        patches: Where its rows lie.
    """

    node: ir.Node
    patches: Patches

    @property
    def source(self) -> str:
        """The name of its input."""
        return self.patches.source

    @property
    def result(self) -> str:
        """The name of what it gives."""
        return str(self.node.outputs[0].name)

    @property
    def weights(self) -> Doubles:
        """The weights, ``[groups, outputs, depth]``."""
        array = constant(self.node.inputs[1])
        assert array is not None
        whole = array.astype(np.float64)
        if not self._rows_first:
            whole = whole.T
        return np.ascontiguousarray(whole).reshape(self.patches.groups, -1, self.patches.depth)

    @property
    def bias(self) -> Doubles:
        """The bias, ``[groups, outputs]``; 0 where there is none."""
        array = constant(self.node.inputs[2]) if len(self.node.inputs) > 2 else None
        count = self.weights.shape[:2]
        if array is None:
            return np.zeros(count)
        return np.broadcast_to(
            array.astype(np.float64).reshape(-1), (count[0] * count[1],)
        ).reshape(count)

    def spell(self, weights: Doubles) -> Floats:
        """Returns weights, as above, as the node has them."""
        array = constant(self.node.inputs[1])
        assert array is not None
        if self._rows_first:
            return weights.reshape(array.shape).astype(np.float32)
        return np.ascontiguousarray(weights[0].T).astype(np.float32)

    @property
    def _rows_first(self) -> bool:
        return self.node.op_type == "Conv" or bool(attribute(self.node, "transB", 0))

    @property
    def taps(self) -> int:
        """How many columns follow one another that read one channel."""
        return self.patches.kernel[0] * self.patches.kernel[1]

    def draw(self, shape: tuple[int, ...], count: int, random: np.random.Generator) -> Places:
        """Returns places of a result of ``shape``, at most ``count``, as numbers of its positions."""
        whole = int(np.prod(shape[:1] + shape[2:] if self.patches.is_image else shape[:-1]))
        if whole <= count:
            return np.arange(whole, dtype=np.int64)
        return np.sort(random.choice(whole, count, replace=False)).astype(np.int64)

    def take_outputs(self, result: npt.NDArray[np.generic], places: Places) -> Doubles:
        """Returns what is at ``places`` of a result, ``[places, groups, outputs]``."""
        array = np.asarray(result, np.float64)
        if self.patches.is_image:
            array = np.moveaxis(array, 1, -1)
        rows: Doubles = array.reshape(-1, array.shape[-1])[places]
        return rows.reshape(len(rows), self.patches.groups, -1)

    def take_inputs(
        self, source: npt.NDArray[np.generic], shape: tuple[int, ...], places: Places
    ) -> Doubles:
        """Returns the rows that make ``places`` of a result of ``shape``, ``[places, groups, depth]``."""
        array = np.asarray(source, np.float64)
        patches = self.patches
        if not patches.is_image:
            rows: Doubles = array.reshape(-1, array.shape[-1])[places]
            return rows[:, None]
        if array.ndim == 3:
            array, shape = array[:, :, None], (*shape[:2], 1, shape[2])
        top, left, bottom, right = patches.pads
        padded = np.pad(array, ((0, 0), (0, 0), (top, bottom), (left, right)))
        image, y, x = np.unravel_index(places, (shape[0], *shape[2:]))
        taps = [
            np.arange(size) * step
            for size, step in zip(patches.kernel, patches.dilation, strict=True)
        ]
        down = (y * patches.stride[0])[:, None] + taps[0]
        across = (x * patches.stride[1])[:, None] + taps[1]
        found: Doubles = padded[image[:, None, None], :, down[:, :, None], across[:, None, :]]
        return np.moveaxis(found, 3, 1).reshape(len(places), patches.groups, patches.depth)


def find_rows(node: ir.Node) -> LayerRows | None:
    """Returns a layer with constant weights and bias as rows, None for what is none of the kind."""
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        return None
    patches = find_patches(node)
    if patches is None or patches.depth > _MOST_DEPTH:
        return None
    for name in ("alpha", "beta"):
        found = node.attributes.get(name)
        if found is not None and found.as_float() != 1:
            return None
    if len(node.inputs) > 2 and node.inputs[2] is not None and constant(node.inputs[2]) is None:
        return None
    return LayerRows(node, patches)
