"""Rounds weights so that the sums they make keep their value, not each weight by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_MOST_FLIPS = 64
_CHUNK = 1 << 22
# What a rounding error costs that no sum shows, relative to one that moves a sum, for inputs of unit size.
_NOISE = 0.1


@dataclass(frozen=True)
class InputStatistics:
    """What is known of the inputs of each output channel's weights.

    Attributes:
        mean: ``[C, I]``, of input channel i of output channel c.
        variance: The same shape.
    """

    mean: npt.NDArray[np.float64]
    variance: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GroupScales:
    """The scales of weights of which each run of some along k has its own.

    Attributes:
        scale: ``[C, runs]``.
        group: Weights of a run; the last may have fewer.
    """

    scale: npt.NDArray[np.float64]
    group: int

    def spread(self, depth: int) -> npt.NDArray[np.float64]:
        """Returns the scale of each of ``depth`` weights, ``[C, depth]``."""
        return np.repeat(self.scale, self.group, axis=1)[:, :depth]


def round_weights(
    targets: npt.NDArray[np.float64],
    inputs: InputStatistics,
    limit: int,
    low: int | None = None,
    scales: GroupScales | None = None,
    *,
    keep_zeros: bool = False,
) -> npt.NDArray[np.float64]:
    """Rounds each target up or down, for little error in a layer's output instead of in its weights.

    With ``d = code - target``, ``D[i] = sum_p d[i, p]`` over the taps of an input channel, whose values hardly differ
    between neighbouring pixels, and inputs whose channels vary by themselves, the expected squared error of an
    output is::

        (sum_i mean[i] D[i])^2 + sum_i variance[i] D[i]^2 + noise * sum_ip d[i, p]^2

    Starting from the nearest codes, the flip that lowers it most is taken until there is none: descent on the
    objective of Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (2020), with its matrix
    taken as rank one plus diagonal.

    Args:
        targets: ``[C, I, P]``, weights over their scale, P taps for each of I input channels.
        inputs: Statistics of the I channels, for each output channel.
        limit: Largest code.
        low: Smallest code; by default ``-limit``.
        scales: Of weights whose scale changes along k, for P = 1: how far a step of each moves its sum.
        keep_zeros: Whether targets of 0 keep the code 0.

    Returns:
        Whole numbers in ``[low, limit]``, of the same shape.
    """
    least = -limit if low is None else low
    if scales is not None:
        weigh = scales.spread(targets.shape[1])
        weigh = weigh / weigh.max(axis=1, keepdims=True)
        inputs = InputStatistics(inputs.mean * weigh, inputs.variance * weigh**2)
    size = np.sqrt(np.mean(inputs.mean**2 + inputs.variance, axis=1, keepdims=True))
    size[size == 0] = 1.0
    mean, variance = inputs.mean / size, inputs.variance / size**2
    codes = np.empty_like(targets)
    rows = max(1, _CHUNK // max(1, targets[0].size))
    for begin in range(0, len(targets), rows):
        part = slice(begin, begin + rows)
        codes[part] = _descend(targets[part], mean[part], variance[part], least, limit, keep_zeros)
    return codes


def _descend(
    targets: npt.NDArray[np.float64],
    mean: npt.NDArray[np.float64],
    variance: npt.NDArray[np.float64],
    least: int,
    limit: int,
    keep_zeros: bool,
) -> npt.NDArray[np.float64]:
    channels, count, taps = targets.shape
    mean = np.repeat(mean, taps, axis=1)
    variance = np.repeat(variance, taps, axis=1)
    flat = targets.reshape(channels, -1)
    codes = np.rint(flat).clip(least, limit)
    error = codes - flat
    fixed = flat == 0 if keep_zeros else np.zeros(flat.shape, bool)
    row = np.arange(channels)
    active = row
    for _ in range(_MOST_FLIPS):
        d, m, v = error[active], mean[active], variance[active]
        by_input = d.reshape(len(active), count, taps).sum(axis=2)
        moved = np.repeat(by_input, taps, axis=1)
        output = (d * m).sum(axis=1, keepdims=True)
        step = np.where(d > 0, -1.0, 1.0)
        gain = (
            (2 * step * output + m) * m + v * (2 * step * moved + 1) + _NOISE * (2 * step * d + 1)
        )
        moved_codes = codes[active] + step
        gain[(moved_codes > limit) | (moved_codes < least) | fixed[active]] = np.inf
        best = gain.argmin(axis=1)
        better = gain[np.arange(len(active)), best] < -1e-9
        active, best = active[better], best[better]
        if not active.size:
            break
        change = step[better, best]
        codes[active, best] += change
        error[active, best] += change
    return codes.reshape(targets.shape)
