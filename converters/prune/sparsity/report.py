"""What pruning inside layers did, layer by layer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SparseLayer:
    """One layer with weights.

    Attributes:
        node: Its name.
        pattern: In which it was pruned, "" where it stayed dense.
        weights: How many it has.
        density: The share of them that is not 0.
        macs: Its multiplications, of one batch.
        error_db: Signal to noise of its results beside the whole network's, on samples that its fit left out; None
            where it was not fitted.
        break_even: The density above which the dense kernel is as fast, None where no table was asked.
        speedup: By the table, how many times faster than the dense kernel the sparse one is; None likewise.
        reason: Why it stayed dense.
    """

    node: str
    pattern: str
    weights: int
    density: float
    macs: int
    error_db: float | None = None
    break_even: float | None = None
    speedup: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class SparsityReport:
    """What `sparsify` did.

    Attributes:
        asked: The share of weights that was to be 0, of those layers that may be pruned.
        layers: Each layer with weights, in graph order.
        answers_db: Signal to noise of the answers beside the whole network's, on samples that were not learned from;
            None where there were too few.
    """

    asked: float
    layers: tuple[SparseLayer, ...]
    answers_db: float | None

    @property
    def zeros(self) -> float:
        """The share of 0 among the weights of the layers that were pruned."""
        pruned = [layer for layer in self.layers if layer.pattern]
        whole = sum(layer.weights for layer in pruned)
        return sum(layer.weights * (1 - layer.density) for layer in pruned) / max(whole, 1)

    @property
    def macs_share(self) -> float:
        """The multiplications by what is not 0, in parts of all."""
        whole = sum(layer.macs for layer in self.layers)
        return sum(layer.macs * layer.density for layer in self.layers) / max(whole, 1)

    def to_dict(self) -> dict[str, Any]:
        """Returns what JSON can hold."""
        return {**asdict(self), "zeros": self.zeros, "macs_share": self.macs_share}
