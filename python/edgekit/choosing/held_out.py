"""Samples that take no part in calibration while forms are chosen, so that what is chosen is what others gain by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from edgekit.choosing.closest import Reference, spread_places
from edgekit.converters.calibrate import Calibration, calibrate
from edgekit.data import Samples
from edgekit.progress import Progress
from edgekit.sizes import is_of

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


def hold_out(
    graph: ir.Model, samples: Samples, reference: Reference, tell: Progress
) -> HeldOut | None:
    """Returns a calibration by some samples, and others to compare answers on; None where there are too few.

    Ranges hold all that was seen, so that answers are closer to float's on samples that ranges come from than on
    others: of magika in int8 24.4 dB are left on the files that it was calibrated with, and 19.5 on others.

    Args:
        graph: The float model, simplified.
        samples: All of them.
        reference: Those of them that forms are compared on, and what float answers; every second one is held out.
        tell: Is told how far calibration is.

    Raises:
        CalibrationError: A sample does not fit the graph.
        ModelError: ONNX Runtime cannot run the graph.
    """
    places = spread_places(len(samples))
    fitting = [place for place, sample in enumerate(reference.samples) if is_of(graph, sample)]
    if len(fitting) < _FEWEST:
        return None
    apart = _take(reference, fitting[1::2])
    whole = replace(_take(reference, fitting), held=range(1, len(fitting), 2))
    judging = {places[place] for place in fitting[1::2]}
    rest = [place for place in range(len(samples)) if place not in judging]
    count = min(len(rest), _SEEN)
    spread = [rest[index * len(rest) // count] for index in range(count)]
    seen = [place for place in spread if is_of(graph, samples[place])]
    learned = calibrate(
        graph,
        (samples[place] for place in seen),
        progress=lambda done, _: tell("calibrating by some", done, len(seen)),
    )
    return HeldOut(learned, seen, whole, apart)


def _take(reference: Reference, places: Sequence[int]) -> Reference:
    return Reference(
        [reference.samples[place] for place in places],
        [reference.outputs[place] for place in places],
    )
