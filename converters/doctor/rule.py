"""What a rule of the doctor is: a fault that a file can have, what it costs, and how it is mended."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Promise:
    """What a fix says of the outputs of the file that it changes, both files run without graph optimization.

    Attributes:
        slack_db: None: the same bytes. Otherwise the signal-to-noise ratio against the float reference falls by at
            most so much, or stays above ``enough_db``.
        enough_db: Noise below this does not matter.
        words: The same for the reader.
    """

    slack_db: float | None
    enough_db: float
    words: str


EXACT = Promise(None, float("inf"), "the same bytes")
CLOSER = Promise(
    1.0, 40.0, "no farther from the float network, 1 dB allowed for chance, or above 40 dB"
)
# A step twice as wide on weights of 7 bits: about 35 dB a layer.
FEWER_BITS = Promise(6.0, 25.0, "at most 6 dB farther from the float network, or above 25 dB")


@dataclass(frozen=True)
class Finding:
    """A fault in a file.

    Attributes:
        rule: The rule's id.
        nodes: Names of the nodes that have it, as in the file; a node without a name goes by its first output.
        message: What is wrong there.
        remedy: What to do about it.
        fixable: Whether the rule's ``fix`` mends it.
    """

    rule: str
    nodes: tuple[str, ...]
    message: str
    remedy: str
    fixable: bool = False


@dataclass(frozen=True)
class Cost:
    """What a fault costs.

    Attributes:
        ms: Median time of a run with the fault and without it, on this machine, in turns; None where not measured.
        db: Signal-to-noise ratio with the fault and without it; None where not measured.
        spent_ms: What the nodes with the fault take, and a whole run, by a profiler; None where not measured.
        basis: How it was found: what was run on what data, or why nothing could be measured.
    """

    ms: tuple[float, float] | None = None
    db: tuple[float, float] | None = None
    spent_ms: tuple[float, float] | None = None
    basis: str = ""

    def __str__(self) -> str:
        parts = []
        if self.ms is not None:
            parts.append(f"{self.ms[0]:.3f} ms, {self.ms[1]:.3f} without")
        if self.db is not None:
            parts.append(f"{self.db[0]:.1f} dB, {self.db[1]:.1f} without")
        if self.spent_ms is not None:
            parts.append(f"{self.spent_ms[0]:.3f} of {self.spent_ms[1]:.3f} ms")
        return "; ".join(parts) or "not measured"

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in a form that JSON can hold."""
        return {
            "ms": None if self.ms is None else {"with": self.ms[0], "without": self.ms[1]},
            "db": None
            if self.db is None
            else {"with": _finite(self.db[0]), "without": _finite(self.db[1])},
            "spent": None
            if self.spent_ms is None
            else {"ms": self.spent_ms[0], "of_ms": self.spent_ms[1]},
            "basis": self.basis,
        }


class Bench(Protocol):
    """What measures the costs of findings."""

    def compare(self, rule: Rule[Any], findings: Sequence[Finding]) -> Cost:
        """Returns what the file takes and loses as it is, and with ``findings`` fixed."""


class Rule(abc.ABC, Generic[Subject]):
    """A fault that a file can have.

    Attributes:
        id: Its name, for reports and options.
        says: What the fault is, a sentence.
        source: Where the fault is described.
        promise: What ``fix`` keeps; None where nothing can be fixed.
        follows: Whether the fault often follows from others: it is then looked for after their fixes.
    """

    id: ClassVar[str]
    says: ClassVar[str]
    source: ClassVar[str]
    promise: ClassVar[Promise | None] = None
    follows: ClassVar[bool] = False

    @abc.abstractmethod
    def check(self, subject: Subject) -> list[Finding]:
        """Returns where ``subject`` has the fault; leaves it as it is."""

    def cost(self, subject: Subject, finding: Finding, bench: Bench) -> Cost:
        """Returns what ``finding`` costs: measured against a file without it, where it can be fixed."""
        del subject
        if finding.fixable:
            return bench.compare(self, [finding])
        return Cost(basis="not measured: no file without the fault can be made from this one")

    def fix(self, subject: Subject, findings: Sequence[Finding]) -> int:
        """Mends the fixable ``findings`` in ``subject``, in place, and returns how many changed it."""
        raise NotImplementedError(f"{self.id} fixes nothing")


def _finite(value: float) -> float | None:
    """Returns ``value``, or None for an infinite ratio: JSON has no infinity."""
    return value if abs(value) != float("inf") else None
