"""Finds the samples whose answers changed most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit.agreement import relative_error
from edgekit.choosing.closest import to_decibels
from edgekit.classification import Classification
from edgekit.converters.answers import Outputs, same_answer
from edgekit.data import Preprocessing, Sample
from edgekit.findings.picture import encode_png, to_data_uri, to_picture
from edgekit.report import ChangedSample
from edgekit.session import Session

# Samples that are shown, and those that are run again to find them.
_SHOWN = 12
_RUN = 64
# Values of an input that is no picture.
_VALUES = 6


@dataclass(frozen=True)
class _Change:
    """A sample and what both networks answer."""

    index: int
    sample: Sample
    error: float
    is_same: bool
    wanted: Outputs
    given: Outputs
    right: int | None


def find_changed(
    reference: Session,
    session: Session,
    samples: Iterable[tuple[int, Sample]],
    *,
    source: str,
    evaluate: Classification | None = None,
    labels: Sequence[str] = (),
    preprocessing: Preprocessing | None = None,
) -> list[ChangedSample]:
    """Returns the samples with another answer, then those with the noisiest outputs.

    Args:
        reference: Runs the float network.
        session: Runs what was deployed.
        samples: By their place among all.
        source: What they are: "evaluation" or "calibration".
        evaluate: Knows the right answers, where these samples are its own.
        labels: Names of the classes.
        preprocessing: How pictures became inputs.
    """
    changes = []
    for index, sample in samples:
        reference.reset()
        wanted = reference.run(sample)
        session.reset()
        given = session.run(sample)
        error, same = relative_error(wanted, given), same_answer(wanted, given)
        right = None if evaluate is None else int(evaluate.answers[index])
        changes.append(_Change(index, sample, error, same, wanted, given, right))
    reference.reset()
    session.reset()
    changes.sort(key=lambda change: (change.is_same, -change.error, change.index))
    return [
        _describe(change, source, labels, preprocessing)
        for change in changes[:_SHOWN]
        if change.error > 0
    ]


def choose_flipped(
    evaluate: Classification, reference: Session, session: Session
) -> list[tuple[int, Sample]]:
    """Returns samples of which the two name different classes: those that became wrong first, then evenly spread."""
    wanted, given = evaluate.name_classes(reference), evaluate.name_classes(session)
    flipped = np.flatnonzero(wanted != given)
    became_wrong = flipped[wanted[flipped] == evaluate.answers[flipped]]
    others = flipped[wanted[flipped] != evaluate.answers[flipped]]
    chosen = [*_spread(became_wrong, _RUN)]
    chosen += _spread(others, _RUN - len(chosen))
    if not chosen:
        return []
    samples = evaluate.read_samples(reference)
    return [(index, samples[index]) for index in chosen]


def _spread(indexes: npt.NDArray[np.int64], count: int) -> list[int]:
    count = min(count, len(indexes))
    return [int(indexes[number * len(indexes) // count]) for number in range(count)]


def _describe(
    change: _Change, source: str, labels: Sequence[str], preprocessing: Preprocessing | None
) -> ChangedSample:
    picture = _show(change.sample, preprocessing)
    return ChangedSample(
        index=change.index,
        source=source,
        float_answer=_name(change.wanted, labels),
        answer=_name(change.given, labels),
        right_answer="" if change.right is None else _label(change.right, labels),
        snr_db=to_decibels(change.error),
        picture=picture,
        values="" if picture else _spell(change.sample),
    )


def _show(sample: Sample, preprocessing: Preprocessing | None) -> str:
    """Returns the first input that is a picture as a data URI, "" where there is none."""
    for array in sample.values():
        pixels = to_picture(array, preprocessing)
        if pixels is not None:
            return to_data_uri(encode_png(pixels))
    return ""


def _name(outputs: Outputs, labels: Sequence[str]) -> str:
    """Returns what an answer names: the place of the largest number, and that number."""
    numbers = next((array for array in outputs.values() if array.dtype.kind in "fiu"), None)
    if numbers is None or numbers.size < 2 or numbers.size != numbers.shape[-1]:
        return ""
    place = int(numbers.reshape(-1).argmax())
    return f"{_label(place, labels)} ({float(numbers.reshape(-1)[place]):.3g})"


def _label(number: int, labels: Sequence[str]) -> str:
    return labels[number] if number < len(labels) else f"class {number}"


def _spell(sample: Sample) -> str:
    """Returns the inputs of a sample in words: shapes, and the first values."""
    words = []
    for name, array in sample.items():
        flat = array.reshape(-1)
        values = " ".join(
            f"{value:.3g}" if array.dtype.kind == "f" else str(value) for value in flat[:_VALUES]
        )
        more = " ..." if flat.size > _VALUES else ""
        words.append(f"{name} {list(array.shape)}: {values}{more}")
    return "; ".join(words)
