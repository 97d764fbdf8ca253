"""Reads answers off outputs, and tells which share of them is another one.

An output whose last dimension is a distribution gives an answer at each place of its other dimensions: where it is
largest. Decibels of such numbers say little: a sequence whose letters all come one place later has lost everything by
them, and no answer; one where a rare answer's chance sinks just below another's has lost nothing by them, and that
answer. Logits can't be told from features, so that decibels are left for these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgekit.converters.sequence_chances import log_chance

Answer = Mapping[str, npt.NDArray[np.generic]]
Reals = npt.NDArray[np.float64]

DISTRIBUTION, CHANCES, LOGITS = "distribution", "chances", "logits"
# How far a distribution's sum may be from 1.
_SUM = 1e-3
# What answers are softened by, as classes that a network teaches another (Hinton, Vinyals and Dean, 2015).
_TEMPERATURE = 4.0
# How far the logarithm of a row's chance moves for each answer that is another one, and how far it counts at most.
_MOVED_BY_AN_ANSWER = 3.0
_MOST_MOVED = 10.0
# Less is what float32 makes of nothing.
_LEAST_CHANCE = 1e-30


def name_kind(arrays: Sequence[Reals]) -> str:
    """Returns what the numbers of an output are, over all samples.

    Returns:
        "distribution" where the last dimension sums to 1; "chances" of yes against no, each by itself, for others
        between 0 and 1; "logits" for matrices of what is left; "" for anything else.
    """
    if all(array.ndim and array.min() >= 0 and array.max() <= 1 + _SUM for array in arrays):
        sums = np.concatenate([np.ravel(array.sum(axis=-1)) for array in arrays])
        if arrays[0].shape[-1] > 1 and np.abs(sums - 1).max() < _SUM:
            return DISTRIBUTION
        return CHANCES
    return LOGITS if all(a.ndim == 2 and a.shape[1] > 1 for a in arrays) else ""


def share_changed(wanted: Sequence[Answer], given: Sequence[Answer]) -> float | None:
    """Returns the share of float's answers that are other ones, of the output with the most; None where none has any.

    At single places, one a row, that is the total variation of the distributions, ``sum |p - q| / 2``, the mean over
    rows and samples: how often answers that are drawn by p and q differ. It is as large as the share of rows whose
    largest element moves, and told from far fewer of them.

    Places that follow each other, those of the dimension before the last, hold a sequence of answers. What is given
    again at the next place counts once, and the answer that float gives most often is what separates the others, as
    the blank of a text that is read (Graves et al., "Connectionist temporal classification", 2006), or silence. The
    share is that of answers to change, add or take out.

    Args:
        wanted: The float model's outputs for each sample.
        given: The same of what is compared with it; all answers are others where they are not finite.
    """
    worst = None
    for name, first in wanted[0].items() if wanted else ():
        if first.dtype.kind != "f" or not first.size:
            continue
        real = [np.asarray(answer[name], np.float64) for answer in wanted]
        other = [np.asarray(answer[name], np.float64) for answer in given]
        if name_kind(real) != DISTRIBUTION:
            continue
        share = _share_of(real, other)
        worst = share if worst is None else max(worst, share)
    return worst


def share_leaning(wanted: Sequence[Answer], given: Sequence[Answer]) -> float | None:
    """Returns how often answers differ that are drawn by the outputs, taken for logits, of the worst output.

    That is the total variation ``sum |p - q| / 2`` of p and q, softmaxes of logits or the distributions themselves, the
    mean over rows and samples. It orders what `share_changed` can't tell of: of DS-CNN's int8 forms on 10,000 images,
    .0072 of it have .9942 of the answers as float has them at 29.7 dB, .0112 have .9898 at 30.9 dB.

    Args:
        wanted: The float model's outputs for each sample.
        given: The same of what is compared with it; all answers are others where they are not finite.

    Returns:
        None where an output of floats is neither a matrix of logits nor distributions at single places.
    """
    worst = None
    for name, first in wanted[0].items() if wanted else ():
        if first.dtype.kind != "f" or not first.size:
            continue
        real = [np.asarray(answer[name], np.float64) for answer in wanted]
        other = [np.asarray(answer[name], np.float64) for answer in given]
        kind = name_kind(real)
        if kind not in (DISTRIBUTION, LOGITS) or _are_sequences(real):
            return None
        if kind == LOGITS:
            real, other = [_soften(array) for array in real], [_soften(array) for array in other]
        share = _share_of(real, other)
        worst = share if worst is None else max(worst, share)
    return worst


def share_unsettled(wanted: Sequence[Answer], given: Sequence[Answer]) -> float | None:
    """Returns which share of answers to other inputs may be another one, by how all classes moved, not only the first.

    Samples at hand are few, and a network is sure of most of them: that an answer moves is then seen once or never. How
    chances of 1e-3 and 1e-6 moved is seen in each. So answers are softened, ``p^(1/T) / sum p^(1/T)`` with T = 4, which
    spreads what moves over all classes, and the total variation of these is taken by 1/T, since what moves logits
    moves softened ones by so much less. Of eight plans of magika, 54 samples told the share of 542 other files that way
    within a third where it was below .013, and half of it above, where `share_changed` told a third to a half.

    Of places that follow each other `share_misread` tells the same.

    Args:
        wanted: The float model's outputs for each sample.
        given: The same of what is compared with it; all answers are others where they are not finite.

    Returns:
        Of the output with the most; None where none is a distribution.
    """
    worst = None
    for name, first in wanted[0].items() if wanted else ():
        if first.dtype.kind != "f" or not first.size:
            continue
        real = [np.asarray(answer[name], np.float64) for answer in wanted]
        other = [np.asarray(answer[name], np.float64) for answer in given]
        if name_kind(real) != DISTRIBUTION:
            continue
        if _are_sequences(real):
            share = share_misread(real, other)
        else:
            share = _share_of([_flatten(p) for p in real], [_flatten(p) for p in other])
            share = share / _TEMPERATURE if share < 1 else share
        worst = share if worst is None else max(worst, share)
    return worst


def reads_sequences(answers: Sequence[Answer]) -> bool:
    """Returns whether there are distributions, and all of them at places that follow each other."""
    found = [
        [np.asarray(answer[name], np.float64) for answer in answers]
        for name, first in (answers[0].items() if answers else ())
        if first.dtype.kind == "f" and first.size
    ]
    spread = [each for each in found if name_kind(each) == DISTRIBUTION]
    return bool(spread) and all(_are_sequences(each) for each in spread)


def share_misread(wanted: Sequence[Reals], given: Sequence[Reals]) -> float:
    """Returns which share of the answers to other inputs may be another one, of places that follow each other.

    How likely float's answers are to be read (`log_chance`) moves in every row, where edits are few: the sum over rows
    of how far its logarithm moves, in float and in what is compared, by three times the answers. Of 32 plans of
    PP-OCRv4 recognition 24 lines told the order of errors on 600 others with a rank correlation of .6 that way, and of
    .4 by edits; that a third of it are other answers was looked up there.

    Args:
        wanted: Distributions that float gives, ``[..., places, classes]`` for each sample.
        given: The same of what is compared with it.
    """
    if not all(np.isfinite(array).all() for array in given):
        return 1.0
    named = [_name_rows(array) for array in wanted]
    separator = _find_separator(named)
    moved = answers = 0.0
    for array, other, rows in zip(wanted, given, named, strict=True):
        pairs = (each.reshape(-1, *each.shape[-2:]) for each in (array, other))
        for p, q, row in zip(*pairs, rows, strict=True):
            sequence = _read_sequence(row, separator)
            apart = log_chance(p, sequence, separator) - log_chance(q, sequence, separator)
            moved += min(abs(apart), _MOST_MOVED)
            answers += len(sequence)
    return min(moved / (_MOVED_BY_AN_ANSWER * max(answers, 1.0)), 1.0)


def without_distributions(answers: Sequence[Answer]) -> list[Answer]:
    """Returns the outputs whose closeness decibels tell: all floats but distributions, whose answers tell more."""
    if not answers:
        return []
    named = [
        name
        for name, first in answers[0].items()
        if first.dtype.kind == "f"
        and first.size
        and name_kind([np.asarray(answer[name], np.float64) for answer in answers]) != DISTRIBUTION
    ]
    return [{name: answer[name] for name in named} for answer in answers]


def count_edits(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> int:
    """Returns how many elements have to be changed, added or taken out (Levenshtein, 1966).

    >>> count_edits(np.array([1, 2, 2, 3]), np.array([2, 2, 4, 3]))
    2
    """
    places = np.arange(len(b) + 1)
    row = places
    for step, element in enumerate(a, 1):
        best = np.minimum(row[1:] + 1, row[:-1] + (b != element))
        # Adding elements of b, one after the other: the least of all that begin further left.
        row = np.minimum.accumulate(np.concatenate([[step], best]) - places) + places
    return int(row[-1])


def _share_of(wanted: Sequence[Reals], given: Sequence[Reals]) -> float:
    if not all(np.isfinite(array).all() for array in given):
        return 1.0
    if _are_sequences(wanted):
        return _share_of_sequences(wanted, given)
    halves = [np.abs(p - q).sum(axis=-1) / 2 for p, q in zip(wanted, given, strict=True)]
    return float(np.mean(np.concatenate([np.ravel(each) for each in halves])))


def _are_sequences(arrays: Sequence[Reals]) -> bool:
    return all(array.ndim > 2 and array.shape[-2] > 1 for array in arrays)


def _soften(logits: Reals) -> Reals:
    """Returns the softmax along the last dimension."""
    # What is not finite stays so.
    with np.errstate(invalid="ignore"):
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float64)


def _flatten(chances: Reals) -> Reals:
    """Returns distributions softened by the temperature."""
    with np.errstate(invalid="ignore"):
        powers = np.maximum(chances, _LEAST_CHANCE) ** (1 / _TEMPERATURE)
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float64)


def _share_of_sequences(wanted: Sequence[Reals], given: Sequence[Reals]) -> float:
    named = [_name_rows(array) for array in wanted]
    separator = _find_separator(named)
    edits = answers = 0
    for rows, others in zip(named, (_name_rows(array) for array in given), strict=True):
        for row, other in zip(rows, others, strict=True):
            sequence = _read_sequence(row, separator)
            answers += len(sequence)
            edits += count_edits(sequence, _read_sequence(other, separator))
    return min(edits / max(answers, 1), 1.0)


def _find_separator(named: Sequence[npt.NDArray[np.int64]]) -> int:
    """Returns the answer that is given most often."""
    return int(np.bincount(np.concatenate([np.ravel(rows) for rows in named])).argmax())


def _name_rows(array: Reals) -> npt.NDArray[np.int64]:
    """Returns where distributions ``[..., n, k]`` are largest, ``[m, n]``."""
    return np.asarray(array.argmax(axis=-1).reshape(-1, array.shape[-2]), np.int64)


def _read_sequence(row: npt.NDArray[np.int64], separator: int) -> npt.NDArray[np.int64]:
    begins = np.concatenate([[True], row[1:] != row[:-1]])
    return np.asarray(row[begins & (row != separator)], np.int64)
