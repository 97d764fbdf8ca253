"""What cutting channels did, layer by layer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class LayerCut:
    """One layer before and after.

    Attributes:
        node: Its name.
        width: Its output channels before.
        width_left: And after.
        macs: Its multiplications before, of one batch.
        macs_left: And after.
        bytes: Of its weights as int8 before.
        bytes_left: And after.
        error_db: Signal to noise of its results beside the whole network's, on samples that its fit left out; None
            where it was not fitted.
    """

    node: str
    width: int
    width_left: int
    macs: int
    macs_left: int
    bytes: int
    bytes_left: int
    error_db: float | None = None


@dataclass(frozen=True)
class ChannelsReport:
    """What `prune_channels` did.

    Attributes:
        measure: What the budget was in.
        cost: What the network cost in it before.
        cost_left: And after.
        layers: Each layer with weights, and each product of values, in graph order.
        answers_db: Signal to noise of the answers, those of the whole network being the signal, on samples that were
            not learned from; None where there were too few.
        kept: Layers whose channels could have been cut, had their readers been understood.
    """

    measure: str
    cost: float
    cost_left: float
    layers: tuple[LayerCut, ...]
    answers_db: float | None
    kept: tuple[str, ...] = ()

    @property
    def macs_share(self) -> float:
        """The multiplications that are left, in parts of those there were."""
        whole = sum(layer.macs for layer in self.layers)
        return sum(layer.macs_left for layer in self.layers) / max(whole, 1)

    @property
    def bytes_share(self) -> float:
        """The bytes of weights that are left, in parts of those there were."""
        whole = sum(layer.bytes for layer in self.layers)
        return sum(layer.bytes_left for layer in self.layers) / max(whole, 1)

    def to_dict(self) -> dict[str, Any]:
        """Returns what JSON can hold."""
        return {**asdict(self), "macs_share": self.macs_share, "bytes_share": self.bytes_share}
