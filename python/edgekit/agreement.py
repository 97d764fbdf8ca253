"""How often a compressed network answers as the original does, with the interval that the sample size allows."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.converters.answers import Outputs, is_number

_Z95 = 1.959963984540054


@dataclass(frozen=True)
class Proportion:
    """A count out of a total, with its 95 % Wilson score interval.

    The interval holds the true share in 95 of 100 samples of this size, also near 0 and 1
    (Wilson, "Probable inference, the law of succession, and statistical inference", 1927).

    >>> print(Proportion(18, 20))
    18/20 = 90.0 % (95 % interval 69.9 to 97.2)
    """

    count: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.count <= self.total or self.total == 0:
            raise ValueError(f"not a proportion: {self.count} of {self.total}")

    @property
    def share(self) -> float:
        """The count over the total."""
        return self.count / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end of the 95 % interval."""
        n, p, z = self.total, self.share, _Z95
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)

    def to_dict(self) -> dict[str, Any]:
        """Returns count, total, share and interval in a form that JSON can hold."""
        return {**asdict(self), "share": self.share, "interval_95": list(self.interval)}

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.count}/{self.total} = {100 * self.share:.1f} % "
            f"(95 % interval {100 * low:.1f} to {100 * high:.1f})"
        )


@dataclass(frozen=True)
class Difference:
    """How much more often one of two ways is right than the other, on the same samples.

    The 95 % interval is the adjusted Wald interval of paired proportions, which is near its level for few samples too
    (Bonett and Price, "Adjusted Wald confidence interval for a difference of binomial proportions based on paired
    data", 2012).

    Attributes:
        more: Samples on which only the first is right.
        less: Samples on which only the second is.
        total: All samples.

    >>> print(Difference(3, 1, 100))
    2.0 % (95 % interval -2.7 to 6.7)
    """

    more: int
    less: int
    total: int

    @classmethod
    def of(cls, first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> Difference:
        """Counts where each of two ways is right."""
        return cls(int((first & ~second).sum()), int((second & ~first).sum()), first.size)

    @property
    def share(self) -> float:
        """The first's share less the second's."""
        return (self.more - self.less) / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end of the 95 % interval."""
        more, less = (self.more + 1) / (self.total + 2), (self.less + 1) / (self.total + 2)
        half = _Z95 * math.sqrt((more + less - (more - less) ** 2) / (self.total + 2))
        return max(-1.0, more - less - half), min(1.0, more - less + half)

    def to_dict(self) -> dict[str, Any]:
        """Returns counts, share and interval in a form that JSON can hold."""
        return {**asdict(self), "share": self.share, "interval_95": list(self.interval)}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.share:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f})"


def name_answers(outputs: Outputs) -> npt.NDArray[np.int64]:
    """Returns where the first output of numbers is largest along its last axis; empty where no output has numbers."""
    array = next((array for array in outputs.values() if is_number(array)), np.zeros((0, 1)))
    return np.asarray(np.atleast_1d(array).argmax(axis=-1), np.int64)


def relative_error(reference: Outputs, outputs: Outputs) -> float:
    """Returns the squared error over all outputs of numbers, relative to the reference's squares (0 is equal)."""
    error = power = 0.0
    for name, wanted in reference.items():
        if not is_number(wanted):
            continue
        error += float(np.square(outputs[name].astype(np.float64) - wanted).sum())
        power += float(np.square(wanted.astype(np.float64)).sum())
    return error / max(power, np.finfo(np.float64).tiny)
