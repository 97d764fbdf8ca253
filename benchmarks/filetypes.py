"""Files on this machine as magika takes them, and how many of them it names right by their extensions."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgekit.data import Sample
from edgekit.session import Session
from intervals import Figure, share_of
from photos import find_package

MODEL = "models/standard_v3_3"
# Where Debian's packages put files.
_FOLDERS = ("/usr/include", "/usr/lib", "/usr/share")
# By extension, what magika may call such a file.
_TYPES = {
    ".c": {"c", "cpp"},
    ".cmake": {"cmake"},
    ".css": {"css"},
    ".gz": {"gzip"},
    ".h": {"c", "cpp"},
    ".html": {"html"},
    ".jar": {"jar", "zip"},
    ".jpg": {"jpeg"},
    ".js": {"javascript"},
    ".json": {"json"},
    ".md": {"markdown"},
    ".ogg": {"ogg"},
    ".php": {"php"},
    ".pl": {"perl"},
    ".pm": {"perl"},
    ".png": {"png"},
    ".ps": {"postscript"},
    ".py": {"python"},
    ".pyc": {"pythonbytecode"},
    ".rst": {"rst"},
    ".sh": {"shell"},
    ".so": {"elf"},
    ".sql": {"sql"},
    ".svg": {"svg"},
    ".tcl": {"tcl"},
    ".ttf": {"ttf"},
    ".wav": {"wav"},
    ".xml": {"xml"},
    ".yaml": {"yaml"},
}
# Of each extension: files to name, for a figure and for scores, others to calibrate with, and others to choose by.
_NAMED, _SCORED, _CALIBRATED, _OTHERS = 200, 100, 2, 400
Files = list[tuple[str, npt.NDArray[np.int32]]]

# As magika 1.0.3 reads files: bytes of a block, codes of either end, the code where there is no byte, and the fewest
# bytes that are worth asking the network about.
_BLOCK, _END, _PADDING, _FEWEST = 4096, 1024, 256, 8


def read_files(_folder: Path) -> list[Sample]:
    """Returns files of every extension, others than those that are measured with.

    Raises:
        FileNotFoundError: This machine has none.
    """
    samples = [codes for _, codes in _choose(_SCORED)[1]]
    if not samples:
        raise FileNotFoundError(f"no files of known types under {', '.join(_FOLDERS)}")
    return [{"bytes": codes} for codes in samples]


def measure_files(session: Session, limit: int | None) -> list[Figure]:
    """Returns the share of files whose type is the one that their extension says."""
    right = score_files(session, limit, _NAMED)
    return [share_of("right types", [bool(each) for each in right], "files")]


def score_files(
    session: Session, limit: int | None = None, named: int = _SCORED
) -> npt.NDArray[np.float64]:
    """Returns 1 for each file whose type is the one that its extension says, and 0 for the others.

    Args:
        session: Answers.
        limit: The most files, None for all.
        named: The most files of an extension.
    """
    return _score(session, _choose(named)[0][:limit])


def score_other_files(session: Session, limit: int | None) -> npt.NDArray[np.float64]:
    """Returns what `score_files` does, of files that no figure is measured on, of all extensions alike.

    Args:
        session: Answers.
        limit: The most files, None for all.
    """
    known = {codes.tobytes() for files in _choose(_NAMED) for _, codes in files}
    others = [file for file in _choose(_NAMED + _OTHERS)[0] if file[1].tobytes() not in known]
    order = np.random.default_rng(0).permutation(len(others))[:limit]
    return _score(session, [others[index] for index in order])


def list_files() -> list[npt.NDArray[np.int32]]:
    """Returns what the network takes of many files of every extension."""
    return [codes for files in _choose(_NAMED + _OTHERS) for _, codes in files]


def _score(session: Session, files: Files) -> npt.NDArray[np.float64]:
    config = find_package("magika") / MODEL / "config.min.json"
    labels = json.loads(config.read_text(encoding="utf-8"))["target_labels_space"]
    right = []
    for extension, codes in files:
        (scores,) = session.run({"bytes": codes}).values()
        right.append(labels[int(np.argmax(scores))] in _TYPES[extension])
    return np.array(right, np.float64)


def make_codes(data: bytes) -> npt.NDArray[np.int32] | None:
    """Returns a file's bytes as the network takes them, ``[1, 2048]``; None where there are too few.

    These are the first 1024 behind white space, and the last 1024 before it.

    >>> make_codes(b"  import os")[0, [0, 8, 9, 2047]].tolist()
    [105, 115, 256, 115]
    """
    first = data[:_BLOCK].lstrip()[:_END]
    last = data[-_BLOCK:].rstrip()[-_END:]
    if len(first) < _FEWEST:
        return None
    codes = np.full(2 * _END, _PADDING, np.int32)
    codes[: len(first)] = list(first)
    codes[2 * _END - len(last) :] = list(last)
    return codes[None]


@cache
def _choose(most: int) -> tuple[Files, Files]:
    """Returns the files to name, so many of each extension at most, and those to calibrate with.

    They are taken by the digests of their paths, no contents twice.
    """
    known: dict[str, list[str]] = {extension: [] for extension in _TYPES}
    for root in _FOLDERS:
        for folder, _, names in os.walk(root):
            for name in names:
                extension = os.path.splitext(name)[1]
                if extension in known:
                    known[extension].append(os.path.join(folder, name))
    named: Files = []
    calibrated: Files = []
    seen = set[bytes]()
    for extension, paths in known.items():
        chosen: Files = []
        for path in sorted(paths, key=lambda path: hashlib.sha256(os.fsencode(path)).digest()):
            if os.path.islink(path):
                continue
            codes = make_codes(Path(path).read_bytes())
            if codes is not None and codes.tobytes() not in seen:
                seen.add(codes.tobytes())
                chosen.append((extension, codes))
            if len(chosen) == most + _CALIBRATED:
                break
        # The first ones calibrate, so that even a few files are never in both.
        calibrated += chosen[:_CALIBRATED]
        named += chosen[_CALIBRATED:]
    return named, calibrated
