"""How a network is distilled: everything that decides the result besides networks and samples."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgekit.targets.errors import EdgekitError

AUTO, SOLVER, GROWN = "auto", "solver", "grown"
MASKS = (AUTO, SOLVER, GROWN)
ADAM, SOAP = "adam", "soap"
OPTIMIZERS = (ADAM, SOAP)
LOGITS = ("auto", "kl", "mse")
SCALES = ("reestimated", "learned")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Settings:
    """What `distill` trains with.

    Attributes:
        steps: Steps of the optimizer, or None: of ``epochs`` or ``minutes``.
        epochs: Times that every sample is seen.
        minutes: How long to train about; the first steps are timed to find how many there are.
        batch: Samples of a step.
        micro_batch: Samples that are computed at once, their gradients adding up; None: all of a step, where the graph
            takes several, else one.
        learning_rate: How far a step may move a weight, as part of the root mean square of its tensor.
        optimizer: "soap" is Adam in the basis in which a matrix's gradients do not depend on each other, for the same
            losses in fewer steps; "adam" is Adam alone.
        warm_up: The share of steps over which the rate grows from 0; then it falls to 0 as a cosine.
        logits: What compares outputs: "kl" of softened classes, "mse" of numbers, or "auto" by the graph's end.
        temperature: What softens classes.
        features: Names of inner values that are compared too, or how many are chosen (0: none).
        feature_weight: What they count beside the outputs.
        features_until: The share of the steps after which outputs alone are compared.
        round_from: The share of the steps before which numbers are floats between the ends of their codes; from then
            on they are rounded, which takes a quarter of a step's time. None: half of them of a network that is pruned,
            none of another, which has nothing else to learn.
        masks: Where the zeros of ``prune`` come from: "solver" asks `sparsify` three times, before the first step and
            within a fifth of them, and what is left makes up for them at once; "grown" takes what is small, 25 times in
            the first third of the steps; "auto" is the solver where it knows all layers that get zeros.
        spread: Whether the share of ``prune`` is that of all layers together, those getting fewer zeros that lose more
            by them; else each layer has it. Of N:M each has it.
        scales: Of int8 weights: "reestimated" from the largest weight of each channel in every step, or "learned".
        calibrate_again: How often, evenly over the first half of the steps, ranges of activations are chosen anew.
        precision: "bfloat16" multiplies in it, and keeps everything else in float32.
        lora: Rank of adapters that are trained in place of large weights; 0: none.
        lora_from: Weights of a matrix from which it gets adapters.
        held_out: The share of samples that are only measured on.
        patience: Measurements without a better one after which it ends; 0: it never ends early.
        measure_every: Steps between measurements; None: a tenth of all.
        seed: Of the order of samples.
    """

    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    batch: int = 32
    micro_batch: int | None = None
    learning_rate: float = 2e-3
    optimizer: str = SOAP
    warm_up: float = 0.05
    logits: str = "auto"
    temperature: float = 2.0
    features: int | Sequence[str] = 4
    feature_weight: float = 0.5
    features_until: float = 0.7
    round_from: float | None = None
    masks: str = AUTO
    spread: bool = True
    scales: str = "reestimated"
    calibrate_again: int = 1
    precision: str = "float32"
    lora: int = 0
    lora_from: int = 1 << 16
    held_out: float = 0.1
    patience: int = 3
    measure_every: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            EdgekitError: A value is out of its range.
        """
        given = [name for name in ("steps", "epochs", "minutes") if getattr(self, name) is not None]
        if len(given) > 1:
            raise EdgekitError(f"give one of steps, epochs and minutes, not {' and '.join(given)}")
        for name, least in (
            ("batch", 1),
            ("lora", 0),
            ("lora_from", 1),
            ("patience", 0),
            ("seed", 0),
        ):
            _check_whole(name, getattr(self, name), least)
        _check_whole("calibrate_again", self.calibrate_again, 0)
        for name in ("steps", "micro_batch", "measure_every"):
            if getattr(self, name) is not None:
                _check_whole(name, getattr(self, name), 1)
        for name in ("epochs", "minutes"):
            if getattr(self, name) is not None:
                _check_number(name, getattr(self, name), 0.0, math.inf)
        _check_number("learning_rate", self.learning_rate, 0.0, 1.0)
        _check_number("temperature", self.temperature, 0.0, math.inf)
        _check_number("features_until", self.features_until, 0.0, 1.0)
        for name in ("warm_up", "held_out", "round_from"):
            value = getattr(self, name)
            if name == "round_from" and value is None:
                continue
            if not _is_number(value) or not 0 <= value < 1:
                raise EdgekitError(f"{name} must be at least 0 and below 1, not {value!r}")
        if not _is_number(self.feature_weight) or not 0 <= self.feature_weight < math.inf:
            raise EdgekitError(f"feature_weight must be at least 0, not {self.feature_weight!r}")
        for name, known in (
            ("logits", LOGITS),
            ("scales", SCALES),
            ("precision", PRECISIONS),
            ("masks", MASKS),
            ("optimizer", OPTIMIZERS),
        ):
            if getattr(self, name) not in known:
                raise EdgekitError(
                    f"{name}={getattr(self, name)!r} is not known; there are {', '.join(known)}"
                )
        if isinstance(self.features, str) or not isinstance(self.features, (int, Sequence)):
            raise EdgekitError(
                f"features must be a number or names of values, not {self.features!r}"
            )

    @property
    def digest(self) -> str:
        """SHA-256 over all of them."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Returns them in a form that JSON can hold."""
        fields = asdict(self)
        if not isinstance(self.features, int):
            fields["features"] = list(self.features)
        return fields


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise EdgekitError(f"{name} must be a whole number of at least {least}, not {value!r}")


def _check_number(name: str, value: object, above: float, most: float) -> None:
    if not _is_number(value) or not above < float(value) <= most:  # type: ignore[arg-type]
        raise EdgekitError(f"{name} must be a number above {above:g}, not {value!r}")
