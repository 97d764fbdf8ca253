"""What Debian's packages say of themselves, and how many of their sections a sentence's embedding tells.

A logistic regression learns the section of a package from the embedding of its description, and names those of others.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from functools import cache

import numpy as np
import numpy.typing as npt

from edgekit.data import Sample
from edgekit.session import Session
from intervals import Figure, share_of
from minilm import make_pieces

SECTIONS = (
    *("database", "editors", "electronics", "fonts", "games"),
    *("graphics", "mail", "math", "science", "sound"),
)
# Of each section: packages to learn from, and others to name.
_LEARNED, _NAMED = 100, 60
# Of the regression: what a weight costs, as many steps as its loss takes to stand still.
_WEIGHT_DECAY = 1.0
_STEPS = 2000

Embeddings = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def measure_descriptions(session: Session, limit: int | None) -> list[Figure]:
    """Returns the share of packages whose section is named.

    Raises:
        FileNotFoundError: This machine knows no packages of Debian.
    """
    learned, named = _choose()
    if limit is not None:
        learned, named = learned[:: max(1, len(learned) // limit)], named[:limit]
    weights = fit([_embed(session, sample) for sample, _ in learned], [c for _, c in learned])
    right = [
        int(np.argmax(_embed(session, sample) @ weights[:-1] + weights[-1])) == section
        for sample, section in named
    ]
    return [share_of("right sections", right, "packages")]


def fit(rows: list[Embeddings], labels: list[int]) -> Embeddings:
    """Returns the weights ``[width + 1, classes]`` of a logistic regression, the last row being the offsets.

    The loss is the sum over samples plus half of the weights' squares; it is convex, and Nesterov's steps ("A method
    of solving a convex programming problem", 1983) begin at 0, so that equal rows give equal weights.
    """
    x = np.concatenate([np.stack(rows), np.ones((len(rows), 1))], axis=1)
    wanted = np.eye(len(SECTIONS))[labels]
    decay = np.full((x.shape[1], 1), _WEIGHT_DECAY)
    decay[-1] = 0
    step = 1 / (0.5 * np.linalg.norm(x, 2) ** 2 + _WEIGHT_DECAY)
    weights = np.zeros((x.shape[1], len(SECTIONS)))
    ahead, pace = weights, 1.0
    for _ in range(_STEPS):
        scores = x @ ahead
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        after = ahead - step * (x.T @ (shares - wanted) + decay * ahead)
        faster = (1 + np.sqrt(1 + 4 * pace * pace)) / 2
        ahead, weights = after + (pace - 1) / faster * (after - weights), after
        pace = faster
    return weights


def _embed(session: Session, sample: Sample) -> Embeddings:
    (embedding,) = session.run(sample).values()
    return embedding.reshape(-1).astype(np.float64)


@cache
def _choose() -> tuple[list[tuple[Sample, int]], list[tuple[Sample, int]]]:
    """Returns packages to learn from and packages to name, by the digests of their names, no description twice."""
    known: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for name, section, text in _read_packages():
        if section in known:
            known[section].setdefault(text, name)
    pieces = make_pieces()
    learned: list[tuple[Sample, int]] = []
    named: list[tuple[Sample, int]] = []
    for number, section in enumerate(SECTIONS):
        texts = sorted(known[section].items(), key=lambda item: _digest(item[1]))
        samples = [(pieces.read(text), number) for text, _ in texts[: _LEARNED + _NAMED]]
        learned += samples[:_LEARNED]
        named += samples[_LEARNED:]
    if not named:
        raise FileNotFoundError("apt knows no packages: run apt-get update")
    return learned, named


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _read_packages() -> list[tuple[str, str, str]]:
    """Returns name, section and description, one line, of every package that apt knows."""
    apt = shutil.which("apt-cache")
    if apt is None:
        raise FileNotFoundError("apt-cache, which knows the descriptions of Debian's packages")
    text = subprocess.run([apt, "dumpavail"], capture_output=True, text=True, check=True).stdout
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        name, section = fields.get("Package"), fields.get("Section")
        description = fields.get("Description") or fields.get("Description-en")
        if name and section and description:
            found.append((name, section, description))
    return found
