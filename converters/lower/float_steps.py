"""Emits the float32 operators of one node that becomes several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.float_program import (
    FloatBinary,
    FloatFunction,
    FloatOperator,
    FloatUnary,
)
from edgekit.converters.lower.state import Lowering
from edgekit.converters.program import DType, Reshape, Tensor


class FloatSteps:
    """Steps of a node, named after it."""

    def __init__(self, lowering: Lowering, node: ir.Node) -> None:
        self._lowering = lowering
        self._node = node

    def label(self, part: str) -> str:
        """Returns the name of a tensor between two steps."""
        return f"{self._node.name or self._node.outputs[0].name}:{part}"

    def name(self, part: str) -> str:
        """Returns the name of a step."""
        return self._lowering.op_name(self._node, f":{part}")

    def tensor(self, part: str, shape: Sequence[int], *, channels_last: bool = False) -> Tensor:
        """Adds a float32 tensor."""
        return self._lowering.real_tensor(self.label(part), shape, channels_last=channels_last)

    def constant(self, array: npt.ArrayLike, part: str) -> Tensor:
        """Adds a float32 constant."""
        return self._lowering.add_constant(
            self._node, self.label(part), np.asarray(array, np.float32)
        )

    def unary(
        self,
        function: FloatFunction,
        x: Tensor,
        part: str,
        alpha: float = 0.0,
        beta: float = 0.0,
    ) -> Tensor:
        """Emits a function of one tensor."""
        y = self.tensor(part, x.shape, channels_last=x.channels_last)
        self._lowering.emit(
            FloatUnary(
                name=self.name(part),
                input=x.name,
                output=y.name,
                function=function,
                alpha=alpha,
                beta=beta,
            )
        )
        return y

    def binary(self, operator: FloatOperator, a: Tensor, b: Tensor, part: str) -> Tensor:
        """Emits a function of two tensors in one layout, one of them perhaps a single element."""
        shape = np.broadcast_shapes(a.shape, b.shape)
        y = self.tensor(part, shape, channels_last=a.channels_last or b.channels_last)
        self._lowering.emit(
            FloatBinary(name=self.name(part), operator=operator, a=a.name, b=b.name, output=y.name)
        )
        return y

    def reshape_image(self, x: Tensor, shape: Sequence[int], part: str) -> Tensor:
        """Returns the bytes of ``x`` as an NHWC image."""
        y = self.tensor(part, shape, channels_last=True)
        self._lowering.emit(Reshape(name=self.name(part), input=x.name, output=y.name))
        return y

    def finish(self, x: Tensor, shape: Sequence[int]) -> None:
        """Makes ``x`` the node's output, under ``shape``."""
        y = self._lowering.add_output(
            self._node,
            shape,
            self._lowering.grid(self._node),
            channels_last=x.channels_last,
            dtype=x.dtype if x.dtype is not DType.CODE else None,
        )
        self._lowering.emit(
            Reshape(name=self._lowering.op_name(self._node), input=x.name, output=y.name)
        )
