"""What recovery did, pass by pass and layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class LayerEffect:
    """What a pass did for one layer, or for one group of channels that several share.

    Attributes:
        name: The layer's node, or the first layer that makes the channels.
        gain_db: By how much the noise at the layers that read them falls, in decibels, as the pass reckons it; 0 where
            it does not.
        note: In words.
    """

    name: str
    gain_db: float
    note: str


@dataclass(frozen=True)
class PassEffect:
    """What a pass did for the whole network.

    Attributes:
        name: Of the pass.
        is_kept: Whether its result was taken.
        before_db: Power of the answers over that of int8's noise, on samples that took no part in choosing, before the
            pass; nan where nothing was measured.
        after_db: The same with it.
        layers: What it did.
        notes: What the user should know.
        same: On how many of these samples the largest output is the one that float has, before and after; None where
            nothing was measured.
        samples: How many there are.
    """

    name: str
    is_kept: bool
    before_db: float
    after_db: float
    layers: tuple[LayerEffect, ...] = ()
    notes: tuple[str, ...] = ()
    same: tuple[int, int] | None = None
    samples: int = 0

    def describe(self) -> str:
        """Returns a line for the user."""
        what = "kept" if self.is_kept else "not kept"
        if not self.layers:
            return f"{self.name}: nothing to do"
        text = f"{self.name}: {self.before_db:.1f} dB became {self.after_db:.1f}, {what}"
        if self.same is not None:
            text += f" (answers as float's: {self.same[0]} of {self.samples} became {self.same[1]})"
        return "; ".join([text, f"{len(self.layers)} layers changed", *self.notes])


@dataclass(frozen=True)
class RecoveryReport:
    """What `recover` did.

    Attributes:
        effects: Of each pass that was tried, in order.
        versions: By pass, or "" for what was given, the noise of int8 on held-out samples in decibels.
    """

    effects: tuple[PassEffect, ...] = ()
    versions: Mapping[str, float] = field(default_factory=dict)

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the passes whose results were taken."""
        return tuple(effect.name for effect in self.effects if effect.is_kept)

    def describe(self) -> list[str]:
        """Returns a line for each pass that did something."""
        return [effect.describe() for effect in self.effects if effect.layers]
