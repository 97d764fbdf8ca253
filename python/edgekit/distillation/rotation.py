"""The basis in which the gradients of a matrix do not depend on each other, followed while they change.

Adam that works in it needs fewer steps: SOAP (Vyas et al., https://arxiv.org/abs/2409.11321), after Shampoo (Gupta,
Koren and Singer, https://arxiv.org/abs/1802.09568).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

# Channels, or weights of a channel, from which on a side keeps its own basis: what follows costs their cube.
_MOST = 256
# Steps between two turns of the basis, and what is kept of the covariances in a step.
_TURN_EVERY, _KEPT = 10, 0.98
# The first turns come earlier: covariances of one step say little.
_EARLY = (1, 2, 4, 7)


class Rotation:
    """Turns gradients of a tensor, as ``[n, k]`` with the first dimension for n, into their basis and back.

    Args:
        shape: Of the tensor, of at least two dimensions.
    """

    def __init__(self, shape: torch.Size) -> None:
        self._rows, self._columns = shape[0], shape[1:].numel()
        self._covariances = [
            torch.zeros(size, size) if 1 < size <= _MOST else None
            for size in (self._rows, self._columns)
        ]
        self._bases: list[torch.Tensor | None] = [None, None]

    def follow(self, gradient: torch.Tensor, step: int) -> None:
        """Learns of the gradient of a step, counted from 1, and turns the basis when it is time."""
        g = gradient.reshape(self._rows, self._columns)
        for side, covariance in enumerate(self._covariances):
            if covariance is not None:
                found = g.T @ g if side else g @ g.T
                covariance.lerp_(found, 1.0 if step == 1 else 1 - _KEPT)
        if step in _EARLY or step % _TURN_EVERY == 0:
            self._turn()

    def enter(self, x: torch.Tensor) -> torch.Tensor:
        """Returns ``L^T x R``, of the shape of ``x``."""
        left, right = self._bases
        found = x.reshape(self._rows, self._columns)
        found = found if left is None else left.T @ found
        return (found if right is None else found @ right).reshape(x.shape)

    def leave(self, x: torch.Tensor) -> torch.Tensor:
        """Returns ``L x R^T``, of the shape of ``x``: `enter` undone."""
        left, right = self._bases
        found = x.reshape(self._rows, self._columns)
        found = found if left is None else left @ found
        return (found if right is None else found @ right.T).reshape(x.shape)

    def _turn(self) -> None:
        """Makes one step of the power iteration by which the bases become the covariances' eigenvectors."""
        for side, covariance in enumerate(self._covariances):
            basis = self._bases[side]
            if covariance is None:
                continue
            if basis is None:
                self._bases[side] = torch.linalg.eigh(covariance)[1].flip(1)
            else:
                self._bases[side] = torch.linalg.qr(covariance @ basis)[0]

    def state(self) -> dict[str, Any]:
        """Returns all that it remembers, for `restore`."""
        return {"covariances": self._covariances, "bases": self._bases}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes what `state` gave."""
        self._covariances = list(state["covariances"])
        self._bases = list(state["bases"])
