"""What calibration learned about a model: sketches of float tensors, ranges of channels, moments of layers' inputs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

import numpy as np

from edgekit.converters.calibrate.channels import ChannelRange
from edgekit.converters.calibrate.moments import ChannelMoments
from edgekit.converters.calibrate.sketch import TensorSketch
from edgekit.converters.full_disk import name_full_disk
from edgekit.converters.read_arrays import read_npz
from edgekit.targets.errors import CalibrationError

_FORMAT = "edgekit calibration 2"

T = TypeVar("T")


@dataclass
class Calibration:
    """The sketches of a model's float tensors over the samples seen so far.

    Attributes:
        digest: SHA-256 of the model's source: sketches of different models do not mix.
        sketches: By the name of the tensor.
        moments: Mean and variance of each channel, of tensors that are the input of a layer with weights.
        samples: How many samples were seen.
        channels: Range of each channel, of tensors whose channels may be scaled (``recover.find_scaling``).
    """

    digest: str
    sketches: dict[str, TensorSketch] = field(default_factory=dict)
    moments: dict[str, ChannelMoments] = field(default_factory=dict)
    samples: int = 0
    channels: dict[str, ChannelRange] = field(default_factory=dict)
    _known: dict[Hashable, object] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def recall(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Returns what ``compute`` gave when ``key`` was last asked for; computed again once more has been seen.

        Args:
            key: Names the computation, and all that goes into it besides this calibration.
            compute: Its result is kept, and must not be written to.
        """
        whole = (key, self.samples)
        if whole not in self._known:
            self._known[whole] = compute()
        return cast(T, self._known[whole])

    def merge(self, other: Calibration) -> None:
        """Adds everything that ``other`` saw; the order of merging does not matter.

        Raises:
            CalibrationError: ``other`` belongs to another model, or to the same one simplified differently.
        """
        same = (
            other.sketches.keys() == self.sketches.keys()
            and other.moments.keys() == self.moments.keys()
        )
        if other.digest != self.digest or not same:
            raise CalibrationError("the two calibrations were made from different models")
        for name, sketch in self.sketches.items():
            sketch.merge(other.sketches[name])
        for name, moments in self.moments.items():
            moments.merge(other.moments[name])
        # A flattened image has other channels at another size.
        for name in [*self.channels]:
            mine, theirs = self.channels[name], other.channels.get(name)
            if theirs is None or (theirs.axis, theirs.lo.size) != (mine.axis, mine.lo.size):
                del self.channels[name]
            else:
                mine.merge(theirs)
        self.samples += other.samples
        self._known.clear()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an ``.npz`` file, whole or not at all, so that a killed run leaves the one before.

        Raises:
            EdgekitError: The disk is full.
        """
        path = Path(path)
        names = sorted(self.sketches)
        header: dict[str, object] = {
            "format": _FORMAT,
            "digest": self.digest,
            "samples": self.samples,
            "names": names,
        }
        header["moments"] = {name: [m.axis, m.count] for name, m in sorted(self.moments.items())}
        header["channels"] = {name: c.axis for name, c in sorted(self.channels.items())}
        arrays: dict[str, np.ndarray] = {"header": np.array(json.dumps(header))}
        for index, name in enumerate(names):
            sketch = self.sketches[name]
            counts = sketch.counts
            keys = np.flatnonzero(counts)
            arrays[f"keys_{index}"] = keys.astype(np.uint16)
            arrays[f"counts_{index}"] = counts[keys]
            arrays[f"range_{index}"] = np.array([sketch.lo, sketch.hi], np.float32)
            if name in self.moments:
                parts = (self.moments[name].sums, self.moments[name].squares)
                arrays[f"moments_{index}"] = np.stack(
                    [a for p in parts for a in (p.whole, p.fraction)]
                )
            if name in self.channels:
                channels = self.channels[name]
                arrays[f"channels_{index}"] = np.stack([channels.lo, channels.hi])
        partial = path.with_name(path.name + ".partial")
        try:
            with name_full_disk(path, "free some space, or keep the checkpoint elsewhere"):
                with partial.open("wb") as stream:
                    np.savez_compressed(stream, allow_pickle=False, **arrays)
                partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibration:
        """Reads what ``save`` wrote.

        Raises:
            CalibrationError: The file is missing, damaged or something else.
        """
        try:
            return cls._from_arrays(read_npz(path))
        except FileNotFoundError as error:
            raise CalibrationError(f"{path}: no such file") from error
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise CalibrationError(
                f"{path}: not a calibration file, or damaged: {error}"
            ) from error

    @classmethod
    def _from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Calibration:
        header = json.loads(str(arrays["header"]))
        if header["format"] != _FORMAT:
            raise ValueError(f"format {header['format']!r} is not {_FORMAT!r}")
        calibration = cls(digest=header["digest"], samples=int(header["samples"]))
        for index, name in enumerate(header["names"]):
            sketch = TensorSketch()
            counts = np.zeros_like(sketch.counts)
            counts[arrays[f"keys_{index}"]] = arrays[f"counts_{index}"]
            sketch.add_counts(counts)
            sketch.lo, sketch.hi = arrays[f"range_{index}"]
            calibration.sketches[name] = sketch
            if name in header["moments"]:
                axis, count = header["moments"][name]
                rows = arrays[f"moments_{index}"]
                moments = ChannelMoments(int(axis), rows.shape[1])
                moments.count = int(count)
                for part, pair in ((moments.sums, rows[:2]), (moments.squares, rows[2:])):
                    part.whole, part.fraction = pair[0], pair[1]
                calibration.moments[name] = moments
            if name in header["channels"]:
                ends = arrays[f"channels_{index}"]
                channels = ChannelRange(int(header["channels"][name]), ends.shape[1])
                channels.lo, channels.hi = ends[0], ends[1]
                calibration.channels[name] = channels
        return calibration
