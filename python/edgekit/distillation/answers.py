"""What the teacher answers, kept where that is small: then it is asked once for each sample, not in every epoch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from edgekit.distillation.batches import Batches, Tensors, to_tensors
from edgekit.distillation.network import GraphNetwork

# Bytes of answers that are kept at most.
_MOST_KEPT = 256 << 20


class Answers:
    """The values of a teacher that a student's are compared with.

    Args:
        teacher: Is not changed.
        wanted: Names of the values.
        together: Whether the teacher takes several samples at once.
    """

    def __init__(self, teacher: GraphNetwork, wanted: Sequence[str], together: bool) -> None:
        self._teacher = teacher
        self._wanted = tuple(wanted)
        self._together = together
        self._kept: dict[int, Tensors] = {}

    def keep(self, batches: Batches) -> None:
        """Asks for every sample once, always in the same batches, and keeps the answers, if memory allows.

        So they do not depend on when training was interrupted.
        """
        for places in batches.in_order():
            for part in [places] if self._together else [[place] for place in places]:
                found = self._ask(to_tensors(batches.read(part)))
                if any(not value.ndim or value.shape[0] % len(part) for value in found.values()):
                    return
                size = sum(value.numel() * value.element_size() for value in found.values())
                if size // len(part) * batches.samples > _MOST_KEPT:
                    self._kept.clear()
                    return
                for number, place in enumerate(part):
                    self._kept[place] = {
                        name: _rows(value, number, len(part)) for name, value in found.items()
                    }

    def of(self, places: Sequence[int], inputs: Tensors) -> Tensors:
        """Returns the values for ``inputs``, which are the samples at these places."""
        if not all(place in self._kept for place in places):
            return self._ask(inputs)
        kept = [self._kept[place] for place in places]
        if len(kept) == 1:
            return kept[0]
        return {name: torch.cat([each[name] for each in kept]) for name in kept[0]}

    def _ask(self, inputs: Tensors) -> Tensors:
        with torch.no_grad():
            found: Tensors = self._teacher(inputs, self._wanted)
        return found


def _rows(value: torch.Tensor, number: int, count: int) -> torch.Tensor:
    """Returns the part of one of ``count`` samples."""
    if count == 1:
        return value
    rows = value.shape[0] // count
    return value[number * rows : (number + 1) * rows].clone()
