"""Adam, with a rate for each tensor (Kingma and Ba, https://arxiv.org/abs/1412.6980)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from edgekit.distillation.rotation import Rotation

_FIRST, _SECOND, _TINY = 0.9, 0.99, 1e-12


class Adam:
    """Moves each tensor by ``rate * m / sqrt(v)``, m and v being means of its gradients and of their squares.

    torch's own optimizers import its compiler first, which takes seconds.

    Args:
        parameters: What is moved, and the rate of each.
        rotates: Whether m and v of matrices are taken in the basis that `Rotation` follows.
    """

    def __init__(
        self, parameters: Sequence[tuple[torch.nn.Parameter, float]], *, rotates: bool = False
    ) -> None:
        self._parameters = list(parameters)
        self._means = [torch.zeros_like(parameter) for parameter, _ in parameters]
        self._squares = [torch.zeros_like(parameter) for parameter, _ in parameters]
        self._rotations = {
            place: Rotation(parameter.shape)
            for place, (parameter, _) in enumerate(parameters)
            if rotates and parameter.ndim > 1
        }
        self._count = 0

    def forget_gradients(self) -> None:
        """Takes the gradients away."""
        for parameter, _ in self._parameters:
            parameter.grad = None

    def step(self, factor: float) -> None:
        """Moves all that have a gradient, at ``factor`` of their rates."""
        self._count += 1
        with torch.no_grad():
            for place, (parameter, rate) in enumerate(self._parameters):
                if parameter.grad is not None:
                    self._move(place, parameter, parameter.grad, factor * rate)

    def _move(
        self, place: int, parameter: torch.nn.Parameter, gradient: torch.Tensor, rate: float
    ) -> None:
        first, second = 1 - _FIRST**self._count, 1 - _SECOND**self._count
        mean, square = self._means[place], self._squares[place]
        mean.lerp_(gradient, 1 - _FIRST)
        rotation = self._rotations.get(place)
        if rotation is not None:
            rotation.follow(gradient, self._count)
            gradient = rotation.enter(gradient)
        square.mul_(_SECOND).addcmul_(gradient, gradient, value=1 - _SECOND)
        size = (square / second).sqrt_().add_(_TINY)
        if rotation is None:
            parameter.addcdiv_(mean, size, value=-rate / first)
        else:
            parameter.add_(rotation.leave(rotation.enter(mean) / size), alpha=-rate / first)

    def state(self) -> dict[str, Any]:
        """Returns all that it remembers, for `restore`."""
        rotations = {place: rotation.state() for place, rotation in self._rotations.items()}
        return {
            "means": self._means,
            "squares": self._squares,
            "count": self._count,
            "rotations": rotations,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes what `state` gave."""
        for kept, saved in (
            (self._means, state["means"]),
            (self._squares, state["squares"]),
        ):
            for tensor, other in zip(kept, saved, strict=True):
                tensor.copy_(other)
        for place, rotation in self._rotations.items():
            rotation.restore(state["rotations"][place])
        self._count = int(state["count"])
