"""Says how far answers are from the float network's, and whether a fix kept its promise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.converters.doctor.rule import Promise
from edgekit.converters.doctor.subject import Answer
from edgekit.converters.noise import relative_noise


def signal_to_noise(wanted: Sequence[Answer], given: Sequence[Answer]) -> float:
    """Returns the ratio in dB, of the float output that suffers most; infinite where nothing differs."""
    noise = relative_noise(wanted, given)
    if noise == 0:
        return float("inf")
    return float(-10 * np.log10(noise)) if np.isfinite(noise) else float("-inf")


def find_breach(
    promise: Promise,
    before: Sequence[Answer],
    after: Sequence[Answer],
    reference: Sequence[Answer],
) -> str:
    """Returns in what way a fix broke its promise, or ''.

    Args:
        promise: The fix's.
        before: Answers of the file that was fixed.
        after: Answers of the fixed file, to the same samples.
        reference: Answers of the float network.
    """
    for a, b in zip(before, after, strict=True):
        if list(a) != list(b):
            return f"the outputs are {', '.join(b)} instead of {', '.join(a)}"
        for name, first in a.items():
            second = b[name]
            if first.shape != second.shape or first.dtype != second.dtype:
                return f"output '{name}' has become {second.dtype} {list(second.shape)}"
            if promise.slack_db is None and first.tobytes() != second.tobytes():
                return f"output '{name}' has other bytes"
            if first.dtype.kind not in "f" and first.tobytes() != second.tobytes():
                return f"output '{name}', which is {first.dtype}, has other values"
    if promise.slack_db is None:
        return ""
    was, now = signal_to_noise(reference, before), signal_to_noise(reference, after)
    if now >= min(promise.enough_db, was - promise.slack_db):
        return ""
    return f"the outputs fell from {was:.1f} to {now:.1f} dB"
