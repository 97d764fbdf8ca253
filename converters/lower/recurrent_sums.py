"""What a recurrent node multiplies with its weights, in float32 or with codes of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from edgekit.converters.float_program import FloatOperator
from edgekit.converters.lower.recurrent_emitter import Emitter
from edgekit.converters.lower.recurrent_weights import CodedMatrix, RecurrentWeights
from edgekit.converters.program import Tensor


class Sums(ABC):
    """Sums over the rows of x and of h: those of some gates, whose numbers follow each other."""

    @abstractmethod
    def take(self, emit: Emitter, direction: int, t: int) -> Tensor:
        """Returns what stands for x at step ``t`` in the other methods."""

    @abstractmethod
    def both(
        self, emit: Emitter, x: Tensor, h: Tensor, gates: tuple[int, int], part: str
    ) -> Tensor:
        """Returns ``W x + R h + b`` of the gates from the first to before the second of ``gates``."""

    @abstractmethod
    def of_input(self, emit: Emitter, x: Tensor, gates: tuple[int, int], part: str) -> Tensor:
        """Returns ``W x`` plus the input's bias."""

    @abstractmethod
    def of_state(self, emit: Emitter, h: Tensor, gates: tuple[int, int], part: str) -> Tensor:
        """Returns ``R h`` plus the state's bias."""


class FloatSums(Sums):
    """float32: ``W x + R h + b`` is one sum, over x, then h.

    Args:
        x: ``[steps, batch, features]``, or batch before steps.
        batch_first: Whether it is.
    """

    def __init__(self, x: Tensor, *, batch_first: bool) -> None:
        self._x = x
        self._batch_first = batch_first

    def take(self, emit: Emitter, direction: int, t: int) -> Tensor:
        """Returns the rows of x."""
        return take_step(emit, self._x, t, (0, self._x.shape[2]), "x", self._batch_first)

    def both(
        self, emit: Emitter, x: Tensor, h: Tensor, gates: tuple[int, int], part: str
    ) -> Tensor:
        """See `Sums`."""
        w, rows = emit.weights, _rows(emit, gates)
        weights = np.concatenate([w.input[rows], w.state[rows]], axis=1)
        joined = emit.concat((x, h), 1, f"{part}:xh")
        return emit.product(joined, weights, w.bias[rows], part)

    def of_input(self, emit: Emitter, x: Tensor, gates: tuple[int, int], part: str) -> Tensor:
        """See `Sums`."""
        w, rows = emit.weights, _rows(emit, gates)
        return emit.product(x, w.input[rows], w.input_bias[rows], part)

    def of_state(self, emit: Emitter, h: Tensor, gates: tuple[int, int], part: str) -> Tensor:
        """See `Sums`."""
        w, rows = emit.weights, _rows(emit, gates)
        return emit.product(h, w.state[rows], w.state_bias[rows], part)


class CodedSums(Sums):
    """int8 weights: ``W x + b`` of all steps, directions and gates is one product, ``R h`` one at each step.

    Both biases are added with ``W x``, except that of the state where it is multiplied by a reset gate.

    Args:
        emit: Of the node.
        x: ``[steps, batch, features]``, or batch before steps.
        directions: Weights with codes.
        batch_first: Whether x is.
    """

    def __init__(
        self,
        emit: Emitter,
        x: Tensor,
        directions: Sequence[RecurrentWeights],
        *,
        batch_first: bool,
    ) -> None:
        self._batch_first = batch_first
        matrices = [weights.coded[0] for weights in directions if weights.coded is not None]
        whole = CodedMatrix(
            np.concatenate([matrix.codes for matrix in matrices]),
            np.concatenate([matrix.scale for matrix in matrices]),
        )
        biases = []
        for weights in directions:
            bias = weights.bias
            if emit.linear_before_reset:
                apart = slice(2 * weights.hidden, None)
                bias[apart] = weights.input_bias[apart]
            biases.append(bias)
        self._width = len(biases[0])
        self._products = emit.coded_product(x, whole, np.concatenate(biases), "wx")

    def take(self, emit: Emitter, direction: int, t: int) -> Tensor:
        """Returns ``W x + b`` of all gates."""
        columns = (direction * self._width, self._width)
        return take_step(emit, self._products, t, columns, "wx", self._batch_first)

    def both(
        self, emit: Emitter, x: Tensor, h: Tensor, gates: tuple[int, int], part: str
    ) -> Tensor:
        """See `Sums`."""
        own = self.of_input(emit, x, gates, f"{part}:wx")
        recurrent = self._multiply(emit, h, gates, f"{part}:rh", biased=False)
        return emit.binary(FloatOperator.ADD, own, recurrent, part)

    def of_input(self, emit: Emitter, x: Tensor, gates: tuple[int, int], part: str) -> Tensor:
        """See `Sums`."""
        return emit.gate(x, gates[0], part, gates[1] - gates[0])

    def of_state(self, emit: Emitter, h: Tensor, gates: tuple[int, int], part: str) -> Tensor:
        """See `Sums`."""
        return self._multiply(emit, h, gates, part, biased=True)

    def _multiply(
        self, emit: Emitter, h: Tensor, gates: tuple[int, int], part: str, *, biased: bool
    ) -> Tensor:
        w, rows = emit.weights, _rows(emit, gates)
        assert w.coded is not None
        matrix = CodedMatrix(w.coded[1].codes[rows], w.coded[1].scale[rows])
        bias = w.state_bias[rows] if biased else np.zeros_like(w.state_bias[rows])
        return emit.coded_product(h, matrix, bias, part)


def take_step(
    emit: Emitter, x: Tensor, t: int, columns: tuple[int, int], part: str, batch_first: bool
) -> Tensor:
    """Returns step ``t`` of a sequence as ``[batch, count]``: its ``columns`` from the first on, so many."""
    first, count = columns
    batch = x.shape[0] if batch_first else x.shape[1]
    begin = (0, t, first) if batch_first else (t, 0, first)
    size = (batch, 1, count) if batch_first else (1, batch, count)
    return emit.reshape(emit.slice(x, begin, size, f"{part}{t}"), (batch, count), f"{part}{t}:row")


def _rows(emit: Emitter, gates: tuple[int, int]) -> slice:
    size = emit.weights.hidden
    return slice(gates[0] * size, gates[1] * size)
