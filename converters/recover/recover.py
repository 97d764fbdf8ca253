"""One entry for all passes: each is tried, and kept where int8 then loses less on samples that it was not made with."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir

from edgekit.converters.answers import same_answer
from edgekit.converters.calibrate import Calibration, RangeChoice, calibrate
from edgekit.converters.changed_answers import without_distributions
from edgekit.converters.noise import relative_noise
from edgekit.converters.quantize import quantize
from edgekit.converters.recover.absorb import absorb
from edgekit.converters.recover.align import align, migrate
from edgekit.converters.recover.channel_means import Answer, Sample, run_float, run_quantized
from edgekit.converters.recover.correct_biases import correct_biases
from edgekit.converters.recover.equalize import equalize
from edgekit.converters.recover.report import LayerEffect, PassEffect, RecoveryReport
from edgekit.targets.errors import EdgekitError

FloatPass = Callable[[ir.Model, Calibration], list[LayerEffect]]
Progress = Callable[[int, int], None]

# Those that change the float graph, in the order in which they are tried.
FLOAT_PASSES: Mapping[str, FloatPass] = {
    "equalize": lambda model, _: equalize(model),
    "absorb": absorb,
    "migrate": migrate,
    "align": align,
}
CORRECT_BIASES = "correct_biases"
PASSES = (*FLOAT_PASSES, CORRECT_BIASES)
AUTO, NONE = "auto", "none"
# Samples that a pass is tried with: half to make it, half to judge it.
_TRIED = 24
# Samples of which these are taken.
_LOOKED_AT = 64
# A pass has to take off so much of the noise, in decibels, to be kept: on a dozen samples less is chance.
_WORTH_DB = 0.5
# Ways to choose ranges of which the better one is tried with, and how much better the second has to be, in decibels.
_RANGES = ("minmax", "mse")
_CLEARLY_DB = 1.0
# What the float answers may change by: passes are exact, but for rounding.
_SAME = 1e-6


class Samples(Protocol):
    """Inputs that are read when they are asked for; a list is one."""

    def __len__(self) -> int:
        """Returns how many there are."""

    def __getitem__(self, index: int, /) -> Sample:
        """Returns one of them."""


@dataclass(frozen=True)
class Recovered:
    """What `recover` made.

    Attributes:
        model: A float graph that answers as the one that was given; that one itself, where no pass was kept.
        report: Each pass, and what it did.
    """

    model: ir.Model
    report: RecoveryReport


def choose_passes(wanted: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the names of the passes that ``wanted`` names: "auto" all, "none" none.

    Raises:
        EdgekitError: There is no such pass.
    """
    if wanted in (AUTO, NONE):
        return PASSES if wanted == AUTO else ()
    if not isinstance(wanted, str | Sequence):
        raise EdgekitError(f"recover must be auto, none or names of passes, not {wanted!r}")
    names = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    for name in names:
        if name not in PASSES:
            raise EdgekitError(
                f"recover={name!r} is not supported; this version knows: auto, none, {', '.join(PASSES)}"
            )
    return tuple(name for name in PASSES if name in names)


def recover(
    model: ir.Model,
    samples: Samples,
    *,
    passes: str | Sequence[str] = AUTO,
    choice: RangeChoice | None = None,
    enough_db: float = math.inf,
    progress: Progress | None = None,
) -> Recovered:
    """Changes a float graph into one that answers the same and loses less in int8.

    With "auto" each pass is tried on half of some samples and kept if the noise of int8 on the other half falls. Passes
    that are named are applied in any case, and measured. Bias correction, which works on the quantized graph, is
    `correct_biases`.

    Args:
        model: A simplified float graph; it is not changed.
        samples: Inputs like those that it will meet; some of them are used.
        passes: "auto", "none", or names of ``PASSES``.
        choice: How ranges are chosen; if not given, from the smallest to the largest value, or by least squared error
            where that is clearly better.
        enough_db: With "auto", the signal to noise ratio of int8 from which on nothing is tried.
        progress: Called with how many passes have been tried, and how many there are.

    Raises:
        EdgekitError: There is no such pass.
        ModelError: ONNX Runtime cannot run the graph.
        CalibrationError: A sample does not fit it.
    """
    names = [name for name in choose_passes(passes) if name in FLOAT_PASSES]
    if not names or not len(samples):
        return Recovered(model, RecoveryReport())
    trial = _Trial(model, samples, choice or RangeChoice(_RANGES[0]))
    best, effects, before = model, [], None
    learned = calibrate(model, trial.learning)
    if passes == AUTO:
        before = trial.measure(best, learned)
        if before.db >= enough_db:
            return Recovered(model, RecoveryReport())
        if choice is None:
            before = trial.choose_ranges(best, learned, before)
    for index, name in enumerate(names):
        if progress is not None:
            progress(index, len(names))
        changed = best.clone()
        layers = tuple(FLOAT_PASSES[name](changed, learned))
        if not layers:
            db = math.nan if before is None else before.db
            effects.append(PassEffect(name, False, db, db))
            continue
        if before is None:
            before = trial.measure(best, learned)
        after_calibration = calibrate(changed, trial.learning)
        after = trial.measure(changed, after_calibration)
        kept = trial.is_same(changed) and (passes != AUTO or after.is_closer(before))
        effects.append(_tell(name, kept, before, after, layers))
        if kept:
            best, learned, before = changed, after_calibration, after
    if progress is not None:
        progress(len(names), len(names))
    return Recovered(best, RecoveryReport(tuple(effects)))


def correct(
    model: ir.Model, quantized: ir.Model, samples: Samples, *, keep_always: bool
) -> tuple[ir.Model, PassEffect]:
    """Returns ``quantized`` with corrected biases, or as it is where the noise on other samples does not fall.

    Args:
        model: The float graph that ``quantized`` was made from.
        quantized: What `quantize` made; it is not changed.
        samples: Half of some of them serve the correction, the other half the comparison.
        keep_always: Whether the correction is taken in any case.

    Raises:
        ModelError: ONNX Runtime cannot run one of both graphs.
    """
    learning, judging = _split(samples)
    wanted = run_float(model, judging)
    before = _judge(wanted, run_quantized(quantized, judging))
    changed = quantized.clone()
    changed.meta.update(quantized.meta)
    layers = tuple(correct_biases(model, changed, learning))
    if not layers:
        return quantized, PassEffect(CORRECT_BIASES, False, before.db, before.db)
    after = _judge(wanted, run_quantized(changed, judging))
    kept = keep_always or after.is_closer(before)
    effect = _tell(CORRECT_BIASES, kept, before, after, layers)
    return (changed if kept else quantized), effect


@dataclass(frozen=True)
class _Judged:
    """How close int8 comes to float on the samples that judge.

    Attributes:
        db: Power of the answers over that of the noise, in decibels.
        same: On how many samples the answer is float's.
        samples: How many there are.
        gives_answers: Whether all outputs are distributions, of which decibels tell little.
    """

    db: float
    same: int
    samples: int
    gives_answers: bool

    def is_closer(self, before: _Judged) -> bool:
        """Returns whether this is closer than ``before`` by more than chance, and gives as many of float's answers."""
        as_many = not self.gives_answers or self.same >= before.same
        return as_many and self.db > before.db + _WORTH_DB


def _judge(wanted: Sequence[Answer], given: Sequence[Answer]) -> _Judged:
    same = sum(same_answer(a, b) for a, b in zip(wanted, given, strict=True))
    gives_answers = bool(wanted) and not without_distributions(wanted)[0]
    return _Judged(_decibels(relative_noise(wanted, given)), same, len(wanted), gives_answers)


def _tell(
    name: str, kept: bool, before: _Judged, after: _Judged, layers: tuple[LayerEffect, ...]
) -> PassEffect:
    return PassEffect(
        name,
        kept,
        before.db,
        after.db,
        layers,
        same=(before.same, after.same),
        samples=after.samples,
    )


class _Trial:
    """Samples to try passes with, and what float answers."""

    def __init__(self, model: ir.Model, samples: Samples, choice: RangeChoice) -> None:
        self.learning, self._judging = _split(samples)
        self._choice = choice
        self._wanted: list[Answer] = run_float(model, self._judging)

    def measure(self, model: ir.Model, calibration: Calibration) -> _Judged:
        """Returns how close int8 comes to float on the samples that judge."""
        quantized = quantize(model, calibration, method=self._choice)
        return _judge(self._wanted, run_quantized(quantized, self._judging))

    def choose_ranges(self, model: ir.Model, calibration: Calibration, before: _Judged) -> _Judged:
        """Takes the other way to choose ranges from now on, where that is clearly closer, and returns how close it is.

        A pass is worth something beside the ranges that will be chosen: recognition of PP-OCRv4 gains 1.5 dB by
        equalization where ranges hold all that was seen (9.4 dB), and nothing where they are cut off (11.9 dB).
        """
        given, self._choice = self._choice, RangeChoice(_RANGES[1])
        after = self.measure(model, calibration)
        if after.db >= before.db + _CLEARLY_DB:
            return after
        self._choice = given
        return before

    def is_same(self, model: ir.Model) -> bool:
        """Returns whether a float graph answers as the one that was given."""
        return relative_noise(self._wanted, run_float(model, self._judging)) <= _SAME


def _split(samples: Samples) -> tuple[list[Sample], list[Sample]]:
    """Returns some samples in two halves, both the same where there is one.

    They are taken by their digests, so that up to ``_LOOKED_AT`` samples may come in any order.
    """
    count = min(len(samples), _LOOKED_AT)
    some = [samples[index * len(samples) // count] for index in range(count)]
    some = sorted(some, key=_digest)[:_TRIED]
    return (some[::2], some[1::2]) if len(some) > 1 else (some, some)


def _digest(sample: Sample) -> bytes:
    found = hashlib.sha256()
    for name in sorted(sample):
        found.update(np.ascontiguousarray(sample[name]).tobytes())
    return found.digest()


def _decibels(noise: float) -> float:
    return -10 * math.log10(min(max(noise, 1e-30), 1e30))


__all__ = ["PASSES", "Recovered", "choose_passes", "correct", "recover"]
