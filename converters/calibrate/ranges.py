"""Chooses the range of an activation from its sketch: min-max, percentile, entropy or mean squared error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgekit.converters.calibrate.sketch import TensorSketch
from edgekit.targets.errors import CalibrationError

_LEVELS = 256


@dataclass(frozen=True)
class Range:
    """An interval of real values, ``lo <= 0 <= hi``."""

    lo: float
    hi: float


@dataclass(frozen=True)
class RangeChoice:
    """How the range of each activation is chosen.

    Attributes:
        method: A key of ``METHODS``.
        exceptions: By the name of a value, its method where that is another one.
        symmetric: Whether a grid reaches as far below 0 as above, so that its zero point is 0: what TensorRT takes.
        narrow_weights: Whether the codes of weights are so small that no two products with uint8 codes leave int16:
            what ONNX Runtime needs on an x86 without VNNI.
    """

    method: str = "minmax"
    exceptions: Mapping[str, str] = field(default_factory=dict)
    symmetric: bool = False
    narrow_weights: bool = False

    def of(self, name: str) -> str:
        """Returns the method for the value ``name``."""
        return self.exceptions.get(name, self.method)

    def __str__(self) -> str:
        counts = sorted(Counter(self.exceptions.values()).items())
        parts = [self.method, *(f"{method} for {count}" for method, count in counts)]
        parts += ["symmetric"] * self.symmetric + ["narrow weights"] * self.narrow_weights
        return ", ".join(parts)


def choose_range(sketch: TensorSketch, method: str = "minmax") -> Range:
    """Chooses the range that ``sketch``'s tensor is quantized over.

    Args:
        sketch: At least one value.
        method: A key of ``METHODS``.

    Raises:
        CalibrationError: No such method, or nothing was ever added to the sketch.
    """
    if method not in METHODS:
        raise CalibrationError(
            f"no range method '{method}'; there are {', '.join(sorted(METHODS))}"
        )
    if not np.isfinite(sketch.lo):
        raise CalibrationError("the sketch has no values")
    return sketch.recall(method, METHODS[method])


def minmax(sketch: TensorSketch) -> Range:
    """Takes all that was seen."""
    return Range(min(0.0, float(sketch.lo)), max(0.0, float(sketch.hi)))


def percentile(sketch: TensorSketch, percent: float = 99.99) -> Range:
    """Leaves out the smallest and the largest ``(100 - percent) / 2`` percent of the values."""
    begin, end, count = sketch.buckets()
    upto = np.cumsum(count)
    tail = (100.0 - percent) / 200.0 * upto[-1]
    lo = begin[np.searchsorted(upto, tail, side="right")]
    hi = end[np.searchsorted(upto, upto[-1] - tail, side="left")]
    return Range(min(0.0, float(lo)), max(0.0, float(hi)))


def mse(sketch: TensorSketch, steps: int = 64) -> Range:
    """Takes the range of least expected squared error: rounding inside it, cutting off outside.

    Both ends are searched in turn over ``steps`` equal parts of the min-max range, until neither moves.
    """
    whole = minmax(sketch)
    if whole.lo == whole.hi:
        return whole
    begin, end, count = sketch.buckets()
    shrink = np.arange(1, steps + 1) / steps
    lo, hi = whole.lo, whole.hi
    for _ in range(8):
        before = (lo, hi)
        if whole.hi > 0:
            errors = [_squared_error(begin, end, count, lo, whole.hi * part) for part in shrink]
            hi = float(whole.hi * shrink[int(np.argmin(errors))])
        if whole.lo < 0:
            errors = [_squared_error(begin, end, count, whole.lo * part, hi) for part in shrink]
            lo = float(whole.lo * shrink[int(np.argmin(errors))])
        if (lo, hi) == before:
            break
    return Range(lo, hi)


def _squared_error(
    begin: npt.NDArray[np.float64],
    end: npt.NDArray[np.float64],
    count: npt.NDArray[np.int64],
    lo: float,
    hi: float,
) -> float:
    """Returns the sum of squared errors of 256 levels over [lo, hi].

    A bucket narrower than a level is taken at its centre, where the rounding is known; in a wider one values are taken
    as uniform, with ``step^2 / 12`` each.
    """
    step = (hi - lo) / (_LEVELS - 1)
    centre = (begin + end) / 2
    kept = np.clip(centre, lo, hi)
    rounding = np.where(end - begin < step / 2, kept - np.rint(kept / step) * step, 0.0) ** 2
    rounding += np.where(end - begin < step / 2, 0.0, step * step / 12)
    return float(np.sum(count * (np.where(centre == kept, rounding, (centre - kept) ** 2))))


def entropy(sketch: TensorSketch, bins: int = 2048, candidates: int = 128) -> Range:
    """Takes the cut-off of least Kullback-Leibler divergence between the values and their 256 levels.

    The values are spread over ``bins`` equal bins. For a cut-off T the reference distribution is that of the values
    clipped to [-T, T], and the candidate is what is left when its bins are merged into 256 levels (Migacz, "8-bit
    inference with TensorRT", 2017). Zeros, and values at a clamp that is kept, are on the grid whatever T is: merging
    does not touch them.
    """
    whole = minmax(sketch)
    if whole.lo == whole.hi:
        return whole
    edges = np.linspace(whole.lo, whole.hi, bins + 1)
    density, atoms = _spread(sketch, edges)
    most = max(-whole.lo, whole.hi)
    best, chosen = np.inf, whole
    for part in np.arange(candidates, 0, -1) / candidates:
        lo, hi = max(whole.lo, -most * part), min(whole.hi, most * part)
        first = int(np.searchsorted(edges, lo, side="right")) - 1
        last = int(np.searchsorted(edges, hi, side="left"))
        if last - first < _LEVELS:
            break
        divergence = _divergence(density, atoms, first, last)
        if divergence < best:
            best, chosen = divergence, Range(float(edges[first]), float(edges[last]))
    return Range(min(0.0, chosen.lo), max(0.0, chosen.hi))


@dataclass(frozen=True)
class _Atoms:
    """Counts of values at single points: the lower end of the range, zero, the upper end."""

    lo: float
    zero: float
    hi: float


def _spread(
    sketch: TensorSketch, edges: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], _Atoms]:
    """Returns the mass in each bin of ``edges``, values of a bucket taken as uniform, and what lies at points."""
    begin, end, count = sketch.buckets()
    tiny = np.maximum(np.abs(begin), np.abs(end)) < float(np.finfo(np.float32).tiny)
    low = (end <= edges[0]) & ~tiny
    high = (begin >= edges[-1]) & ~tiny
    atoms = _Atoms(*(float(count[where].sum()) for where in (low, tiny, high)))
    inner = ~(low | tiny | high)
    points = np.stack([begin[inner], end[inner]], axis=1).reshape(-1)
    mass = np.stack([np.zeros(inner.sum()), count[inner]], axis=1).reshape(-1)
    if not points.size:
        return np.zeros(edges.size - 1), atoms
    return np.diff(np.interp(edges, points, np.cumsum(mass))), atoms


def _divergence(density: npt.NDArray[np.float64], atoms: _Atoms, first: int, last: int) -> float:
    inside = density[first:last]
    cut = (first > 0, last < density.size)
    reference = inside.copy()
    reference[0] += density[:first].sum() + (atoms.lo if cut[0] else 0.0)
    reference[-1] += density[last:].sum() + (atoms.hi if cut[1] else 0.0)
    level = np.arange(inside.size) * _LEVELS // inside.size
    used = inside > 0
    mass = np.bincount(level, weights=inside, minlength=_LEVELS)
    members = np.bincount(level, weights=used, minlength=_LEVELS)
    candidate = np.where(used, mass[level] / np.maximum(members[level], 1), 0.0)
    kept = [atoms.zero, 0.0 if cut[0] else atoms.lo, 0.0 if cut[1] else atoms.hi]
    p = np.concatenate([reference, kept])
    q = np.concatenate([candidate, kept])
    p, q = p / max(p.sum(), 1e-300), q / max(q.sum(), 1e-300)
    # Where a level has lost all its mass, the value is charged as if almost nothing were left.
    present = p > 0
    return float(np.sum(p[present] * np.log(p[present] / np.maximum(q[present], 1e-12))))


# In the order of what they cut off, nothing first.
METHODS: dict[str, Callable[[TensorSketch], Range]] = {
    "minmax": minmax,
    "mse": mse,
    "percentile": percentile,
    "entropy": entropy,
}
