"""Samples as batches of tensors, in an order that a seed and the number of a step decide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from edgekit.data import Sample
from edgekit.distillation.network import GraphNetwork
from edgekit.targets.errors import CalibrationError, ModelError

Tensors = dict[str, torch.Tensor]

# What a batch may differ by from its samples one by one, over the power of these.
_SAME = 1e-6
# At most so many samples are measured on.
_MOST_HELD_OUT = 512
# Dimensions of pictures: samples, channels, height, width.
_PICTURE = 4


class SampleSource(Protocol):
    """Samples that may be read again and again, by their places."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> Sample: ...


def to_tensors(samples: Sequence[Sample]) -> Tensors:
    """Returns the samples behind each other, along the first dimension; pictures with their channels last in memory.

    Convolutions hand that order on, and CPUs are faster in it.
    """
    found = {}
    for name in samples[0]:
        tensor = torch.from_numpy(np.concatenate([sample[name] for sample in samples]))
        if tensor.ndim == _PICTURE and tensor.is_floating_point():
            tensor = tensor.to(memory_format=torch.channels_last)
        found[name] = tensor
    return found


class Batches:
    """Batches of samples of one shape each.

    Every epoch takes each sample once, in an order of its own; what is left over of a shape makes a smaller batch.

    Args:
        samples: May be read again and again.
        places: Of those that are used.
        size: Samples of a batch.
        seed: Decides the order.
    """

    def __init__(self, samples: SampleSource, places: Sequence[int], size: int, seed: int) -> None:
        self._samples = samples
        self._size = size
        self._seed = seed
        groups: dict[object, list[int]] = {}
        for place in places:
            sample = samples[place]
            shape = tuple((name, array.shape) for name, array in sorted(sample.items()))
            groups.setdefault(shape, []).append(place)
        self._groups = list(groups.values())

    @property
    def count(self) -> int:
        """Batches of an epoch."""
        return sum(-(-len(group) // self._size) for group in self._groups)

    @property
    def samples(self) -> int:
        """Samples of an epoch."""
        return sum(len(group) for group in self._groups)

    def epoch(self, number: int) -> list[list[int]]:
        """Returns the places of the samples of each batch of an epoch."""
        random = np.random.default_rng([self._seed, number])
        found = []
        for group in self._groups:
            order = [group[place] for place in random.permutation(len(group))]
            found += [order[i : i + self._size] for i in range(0, len(order), self._size)]
        return [found[place] for place in random.permutation(len(found))]

    def from_step(self, step: int) -> Iterator[list[int]]:
        """Yields the places of batches without end, from the one that a step takes."""
        number, skipped = divmod(step, self.count)
        while True:
            yield from self.epoch(number)[skipped:]
            number, skipped = number + 1, 0

    def in_order(self) -> Iterator[list[int]]:
        """Yields every sample's place once, always in the same batches."""
        for group in self._groups:
            for start in range(0, len(group), self._size):
                yield group[start : start + self._size]

    def read(self, places: Sequence[int]) -> list[Sample]:
        """Returns the samples at these places."""
        return [self._samples[place] for place in places]


def hold_out(count: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Returns the places of samples to train on and of those to measure on, drawn by the seed.

    With nothing to hold out, all are trained on and measured on.

    >>> train, measured = hold_out(10, 0.2, 0)
    >>> len(train), len(measured), sorted(train + measured) == list(range(10))
    (8, 2, True)
    """
    held = min(round(count * share), _MOST_HELD_OUT, count - 1)
    order = [int(place) for place in np.random.default_rng([seed, 1]).permutation(count)]
    if held < 1:
        return sorted(order), sorted(order)[:_MOST_HELD_OUT]
    return sorted(order[held:]), sorted(order[:held])


def takes_batches(network: GraphNetwork, samples: SampleSource) -> bool:
    """Returns whether the network answers two samples together as it does one by one.

    Raises:
        ModelError: It does not answer one.
        CalibrationError: There is no sample.
    """
    if not len(samples):
        raise CalibrationError("there are no samples to distill with")
    first = samples[0]
    alike = (
        sample
        for sample in (samples[i] for i in range(1, min(len(samples), 64)))
        if _alike(first, sample)
    )
    second = next(alike, None)
    with torch.no_grad():
        alone = network(to_tensors([first]))
        if second is None:
            return False
        other = network(to_tensors([second]))
        try:
            both = network(to_tensors([first, second]))
        except ModelError:
            return False
    return all(
        both[name].shape[:1] == (2 * alone[name].shape[0],)
        and _near(both[name], torch.cat([alone[name], other[name]]))
        for name in both
        if both[name].ndim
    )


def _alike(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return all(a[name].shape == b[name].shape for name in a)


def _near(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape:
        return False
    difference, power = (a.double() - b.double()).pow(2).sum(), b.double().pow(2).sum()
    return bool(difference <= _SAME * power)
