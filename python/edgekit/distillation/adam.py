"""Adam, with a rate for each tensor (Kingma and Ba, https://arxiv.org/abs/1412.6980)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

_FIRST, _SECOND, _TINY = 0.9, 0.99, 1e-12


class Adam:
    """Moves each tensor by ``rate * m / sqrt(v)``, m and v being means of its gradients and of their squares.

    torch's own optimizers import its compiler first, which takes seconds.

    Args:
        parameters: What is moved, and the rate of each.
    """

    def __init__(self, parameters: Sequence[tuple[torch.nn.Parameter, float]]) -> None:
        self._parameters = list(parameters)
        self._means = [torch.zeros_like(parameter) for parameter, _ in parameters]
        self._squares = [torch.zeros_like(parameter) for parameter, _ in parameters]
        self._count = 0

    def forget_gradients(self) -> None:
        """Takes the gradients away."""
        for parameter, _ in self._parameters:
            parameter.grad = None

    def step(self, factor: float) -> None:
        """Moves all that have a gradient, at ``factor`` of their rates."""
        with torch.no_grad():
            self._step(factor)

    def _step(self, factor: float) -> None:
        self._count += 1
        first, second = 1 - _FIRST**self._count, 1 - _SECOND**self._count
        for (parameter, rate), mean, square in zip(
            self._parameters, self._means, self._squares, strict=True
        ):
            gradient = parameter.grad
            if gradient is None:
                continue
            mean.lerp_(gradient, 1 - _FIRST)
            square.mul_(_SECOND).addcmul_(gradient, gradient, value=1 - _SECOND)
            size = (square / second).sqrt_().add_(_TINY)
            parameter.addcdiv_(mean, size, value=-factor * rate / first)

    def state(self) -> dict[str, Any]:
        """Returns all that it remembers, for `restore`."""
        return {"means": self._means, "squares": self._squares, "count": self._count}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes what `state` gave."""
        for kept, saved in (
            (self._means, state["means"]),
            (self._squares, state["squares"]),
        ):
            for tensor, other in zip(kept, saved, strict=True):
                tensor.copy_(other)
        self._count = int(state["count"])
