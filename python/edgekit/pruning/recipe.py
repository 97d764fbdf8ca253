"""What ``prune`` asks for: channels, zeros inside all layers or in single ones, or whatever pays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgekit.converters.prune.channels import Budget, parse_budget
from edgekit.converters.prune.pattern import KeepOfGroup, Pattern, parse_pattern
from edgekit.converters.prune.sparsity import Zeros
from edgekit.targets.errors import EdgekitError

NONE, AUTO = "none", "auto"
CHANNELS = "channels"
_FORMS = (
    'prune is "none", "auto", or a mapping such as {"channels": 0.5} (share of multiplications that stays; or '
    '"50% ms", "50% bytes", "1.5 ms", "800 kB", "30 MMACs"), '
    '{"4x32": 0.5} (share of weights that is 0), {"2:4": 0.5} or {"NODE": "4x32:0.75"}'
)


@dataclass(frozen=True)
class Pruning:
    """What is pruned.

    Attributes:
        channels: What the network may cost after whole channels were cut, or the share of multiplications that stays;
            None: none are.
        zeros: Of all layers that can have some, None: none.
        layers: Of single layers, by the names of their nodes.
        auto: Whether it is chosen by what pays.
    """

    channels: Budget | float | None = None
    zeros: Zeros | None = None
    layers: Mapping[str, Zeros] = field(default_factory=dict)
    auto: bool = False

    def __bool__(self) -> bool:
        """Returns whether anything is asked for."""
        return self.auto or self.is_sparse or self.channels is not None

    @property
    def is_sparse(self) -> bool:
        """Whether zeros inside layers are asked for."""
        return self.zeros is not None or bool(self.layers)

    def __str__(self) -> str:
        parts = []
        if self.channels is not None:
            cost = self.channels
            parts.append(f"channels {cost if isinstance(cost, Budget) else format(cost, 'g')}")
        if self.zeros is not None:
            parts.append(f"{self.zeros.pattern} {self.zeros.share:g}")
        parts += [f"{name} {zeros.pattern}:{zeros.share:g}" for name, zeros in self.layers.items()]
        return AUTO if self.auto else ", ".join(parts) or NONE


def read_pruning(prune: str | Mapping[str, Any]) -> Pruning:
    """Reads the argument ``prune`` of `deploy`.

    >>> str(read_pruning({"channels": 0.7, "4x32": 0.5}))
    'channels 0.7, 4x32 0.5'

    Raises:
        EdgekitError: It asks for nothing that there is.
    """
    if isinstance(prune, str):
        if prune not in (NONE, AUTO):
            raise EdgekitError(f"prune={prune!r} is not supported: {_FORMS}")
        return Pruning(auto=prune == AUTO)
    if not isinstance(prune, Mapping):
        raise EdgekitError(f"prune={prune!r} is not supported: {_FORMS}")
    channels: Budget | float | None = None
    zeros: Zeros | None = None
    layers: dict[str, Zeros] = {}
    for key, value in prune.items():
        pattern = _find_pattern(key)
        if key == CHANNELS:
            channels = _read_budget(value)
        elif pattern is not None and zeros is not None:
            raise EdgekitError(
                f"prune has two patterns for all layers, {zeros.pattern} and {pattern}: give one, and name the layers "
                "that have another"
            )
        elif pattern is not None:
            zeros = Zeros(pattern, _read_share(key, value))
        else:
            layers[str(key)] = _read_layer(key, value)
    return Pruning(channels, zeros, layers)


def parse_pruning(items: list[str]) -> str | dict[str, Any]:
    """Reads the command line's KEY=VALUE, of which the last "=" counts, or "none" or "auto" alone.

    >>> parse_pruning(["channels=0.5", "/head/conv=4x32:0.75"])
    {'channels': 0.5, '/head/conv': '4x32:0.75'}

    Raises:
        EdgekitError: An item is neither.
    """
    if len(items) <= 1 and (not items or "=" not in items[0]):
        return items[0] if items else NONE
    found: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.rpartition("=")
        if not equals or not key:
            raise EdgekitError(f"--prune {item!r} is no KEY=VALUE: {_FORMS}")
        try:
            found[key] = float(value)
        except ValueError:
            found[key] = value
    return found


def _find_pattern(key: object) -> Pattern | None:
    try:
        return parse_pattern(str(key))
    except EdgekitError:
        return None


def _read_budget(value: object) -> Budget | float:
    if not isinstance(value, str):
        return _read_share(CHANNELS, value)
    try:
        return parse_budget(value)
    except EdgekitError as error:
        raise EdgekitError(f"prune: {error}") from error


def _read_share(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise EdgekitError(f"prune: {key} is a share above 0 and below 1, not {value!r}: {_FORMS}")
    return float(value)


def _read_layer(name: object, value: object) -> Zeros:
    wrong = f"prune: {name!r} is no pattern, so it names a layer, whose value is PATTERN:SHARE such as 4x32:0.75"
    if not isinstance(name, str) or not isinstance(value, str):
        raise EdgekitError(f"{wrong}, not {value!r}: {_FORMS}")
    whole = _find_pattern(value)
    if isinstance(whole, KeepOfGroup):
        return Zeros(whole, 1 - whole.density)
    text, _, share = value.rpartition(":")
    pattern = _find_pattern(text)
    try:
        number = float(share)
    except ValueError as error:
        raise EdgekitError(f"{wrong}, not {value!r}") from error
    if pattern is None:
        raise EdgekitError(f"{wrong}, not {value!r}")
    return Zeros(pattern, number)
