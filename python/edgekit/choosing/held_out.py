"""Samples that take no part in calibration while forms are chosen, so that what is chosen is what others gain by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from edgekit.choosing.closest import Reference, spread_places
from edgekit.converters.calibrate import Calibration, calibrate
from edgekit.data import Samples
from edgekit.progress import Progress
from edgekit.sizes import calibrate_sizes, is_of
from edgekit.targets.errors import CalibrationError

# Samples of which some can be held out with something left to learn from.
_FEWEST = 8
# Samples that are learned from at most.
_SEEN = 128


@dataclass(frozen=True)
class HeldOut:
    """What forms are tried with.

    Attributes:
        calibration: What was learned of the samples that are seen.
        places: Where these samples are among all.
        reference: Samples to compare answers on, half of which are not seen, and what float answers to them.
        apart: That half alone.
    """

    calibration: Calibration
    places: Sequence[int]
    reference: Reference
    apart: Reference


@dataclass(frozen=True)
class Seen:
    """What was learned of the samples that `hold_out` would calibrate by.

    Attributes:
        graph: By which network.
        places: Of these samples.
        calibration: What was learned.
    """

    graph: ir.Model
    places: Sequence[int]
    calibration: Calibration


def calibrate_apart(
    graphs: Sequence[ir.Model], samples: Samples, tell: Progress, checkpoint: str | Path | None
) -> tuple[Calibration, Seen | None]:
    """Returns what `calibrate_sizes` does, and what it learned of the samples that are seen while forms are chosen.

    Those are run first, and added to the others': the order makes no difference, and `hold_out` need not run them
    again. None where there are several sizes, too few samples, or a checkpoint, which holds all in their order.
    """
    count = len(spread_places(len(samples)))
    if len(graphs) > 1 or checkpoint is not None or count < _FEWEST:
        return calibrate_sizes(graphs, samples, tell, checkpoint), None
    (graph,) = graphs
    seen = _divide(len(samples), range(count))
    chosen = set(seen)
    rest = [place for place in range(len(samples)) if place not in chosen]

    def learn(places: Sequence[int], before: int) -> Calibration:
        return calibrate(
            graph,
            (samples[place] for place in places),
            progress=lambda done, _: tell("calibrating", before + done, len(samples)),
        )

    try:
        some = learn(seen, 0)
        whole = learn(rest, len(seen))
    except CalibrationError:
        # It names the sample by its number among all.
        return calibrate_sizes(graphs, samples, tell, checkpoint), None
    whole.merge(some)
    return whole, Seen(graph, seen, some)


def hold_out(
    graph: ir.Model,
    samples: Samples,
    reference: Reference,
    tell: Progress,
    known: Seen | None = None,
) -> HeldOut | None:
    """Returns a calibration by some samples, and others to compare answers on; None where there are too few.

    Ranges hold all that was seen, so that answers are closer to float's on samples that ranges come from than on
    others: of magika in int8 24.4 dB are left on the files that it was calibrated with, and 19.5 on others.

    Args:
        graph: The float model, simplified.
        samples: All of them.
        reference: Those of them that forms are compared on, and what float answers; every second one is held out.
        tell: Is told how far calibration is.
        known: What was learned before, maybe of another network.

    Raises:
        CalibrationError: A sample does not fit the graph.
        ModelError: ONNX Runtime cannot run the graph.
    """
    fitting = [place for place, sample in enumerate(reference.samples) if is_of(graph, sample)]
    if len(fitting) < _FEWEST:
        return None
    apart = _take(reference, fitting[1::2])
    whole = replace(_take(reference, fitting), held=range(1, len(fitting), 2))
    spread = _divide(len(samples), fitting)
    if known is not None and known.graph is graph and known.places == spread:
        return HeldOut(known.calibration, spread, whole, apart)
    seen = [place for place in spread if is_of(graph, samples[place])]
    learned = calibrate(
        graph,
        (samples[place] for place in seen),
        progress=lambda done, _: tell("calibrating by some", done, len(seen)),
    )
    return HeldOut(learned, seen, whole, apart)


def _divide(total: int, fitting: Sequence[int]) -> list[int]:
    """Returns the places of the samples that are seen: some of those that do not judge.

    Args:
        total: How many samples there are.
        fitting: Which of those that forms are compared on are of the network's size.
    """
    places = spread_places(total)
    judging = {places[index] for index in fitting[1::2]}
    rest = [place for place in range(total) if place not in judging]
    count = min(len(rest), _SEEN)
    return [rest[index * len(rest) // count] for index in range(count)]


def _take(reference: Reference, places: Sequence[int]) -> Reference:
    return Reference(
        [reference.samples[place] for place in places],
        [reference.outputs[place] for place in places],
        counts_answers=reference.counts_answers,
    )
