"""What pruning took out of a network, for its report."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class PrunedLayer:
    """A layer that was pruned.

    Attributes:
        name: The node's.
        pattern: Of its zeros, "channels" where whole channels are gone, or both joined by "+".
        density: Share of its weights that is left and not 0.
        macs: Multiplications by these, of one batch.
        macs_before: By all that it had.
        bytes: Of these weights as int8, numbers of blocks left out.
        bytes_before: Of all.
        break_even: The density above which its dense kernel would be as fast, None where no kernel skips zeros.
        speedup: By the table of break-even, how many times faster than dense; None likewise.
    """

    name: str
    pattern: str
    density: float
    macs: int
    macs_before: int
    bytes: int
    bytes_before: int
    break_even: float | None = None
    speedup: float | None = None


@dataclass(frozen=True)
class PruningAccount:
    """What pruning did.

    Attributes:
        recipe: What was pruned, in words; "none" where "auto" found nothing that pays.
        macs_share: Multiplications that are left, zeros not counted, in parts of the whole network's.
        bytes_share: The same of weights.
        layers: Those that were pruned.
        dense: Why layers stayed as they were, by their names.
        dense_ms: Milliseconds of the plan that was not pruned, None where it was not timed beside this one.
        pruned_ms: Of this one, in turns with it.
        tried: What "auto" tried, and what came of it, a line each.
    """

    recipe: str
    macs_share: float
    bytes_share: float
    layers: list[PrunedLayer] = field(default_factory=list)
    dense: dict[str, str] = field(default_factory=dict)
    dense_ms: float | None = None
    pruned_ms: float | None = None
    tried: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in a form that JSON can hold."""
        return asdict(self)

    def describe(self) -> str:
        """Returns the whole in a line."""
        if not self.layers:
            why = Counter(self.dense.values())
            reasons = "; ".join(f"{reason} ({why[reason]} of {why.total()})" for reason in why)
            return f"nothing was pruned{': ' if why else ''}{reasons}"
        text = (
            f"{self.recipe}: {self.macs_share:.0%} of the multiplications and {self.bytes_share:.0%} of the weights "
            f"are left, in {len(self.layers)} pruned layer{'s' * (len(self.layers) > 1)}"
        )
        if self.dense_ms is not None and self.pruned_ms is not None:
            text += f"; {self.pruned_ms:.3g} ms beside {self.dense_ms:.3g} ms in turns"
        return text


def spell_pruned(layer: PrunedLayer) -> list[str]:
    """Returns a row for a layer: name, zeros, what is left, multiplications, bytes, break-even and what it gains."""
    return [
        layer.name,
        layer.pattern,
        f"{layer.density:.0%}",
        f"{layer.macs:,} of {layer.macs_before:,}",
        f"{layer.bytes:,} of {layer.bytes_before:,}",
        "" if layer.break_even is None else f"{layer.break_even:.0%}",
        "" if layer.speedup is None else f"{layer.speedup:.1f} times",
    ]
