"""What the caller's measure says of the float network and the deployed one: all samples, each class, each subgroup."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from edgekit.agreement import Proportion
from edgekit.promise.paired import Discordant

Interval = tuple[float, float]


@dataclass(frozen=True)
class Compared:
    """What both networks make of the same samples.

    Attributes:
        name: Of the class or subgroup; "" for all samples.
        samples: How many there are.
        reference, candidate: Means of the scores of the float network and of the deployed one.
        reference_interval, candidate_interval: Wilson's 95 % intervals; None where scores are not right or wrong.
        drop_interval: 95 % interval of the drop, by the rule in `Evaluation.intervals`; None where there is none.
        discordant: On how many samples one network alone is right; None where scores are not right or wrong.
        changed: On how many samples the two give different answers; None where answers are not known.
    """

    name: str
    samples: int
    reference: float
    candidate: float
    reference_interval: Interval | None = None
    candidate_interval: Interval | None = None
    drop_interval: Interval | None = None
    discordant: Discordant | None = None
    changed: Proportion | None = None

    @property
    def drop(self) -> float:
        """How much was lost; negative where the deployed network is better."""
        return self.reference - self.candidate

    @property
    def mcnemar(self) -> float | None:
        """McNemar's exact two-sided p-value of both being right equally often; None where that makes no sense."""
        return None if self.discordant is None else self.discordant.mcnemar

    def to_dict(self) -> dict[str, Any]:
        """Returns everything in a form that JSON can hold."""
        return {
            "name": self.name,
            "samples": self.samples,
            "reference": self.reference,
            "candidate": self.candidate,
            "drop": self.drop,
            "reference_interval": _list(self.reference_interval),
            "candidate_interval": _list(self.candidate_interval),
            "drop_interval": _list(self.drop_interval),
            "discordant": None if self.discordant is None else asdict(self.discordant),
            "changed": self.changed and self.changed.to_dict(),
            "mcnemar": self.mcnemar,
        }


@dataclass(frozen=True)
class Evaluation:
    """The caller's measure, looked at closely; of an `evaluate` that gives a score for each sample.

    Attributes:
        measure: What is measured, in words.
        whole: All samples.
        classes: The samples of each class, that of which the deployed network gets the smallest share right first.
        groups: By the name of a grouping, the samples of each subgroup, in the same order.
        intervals: How intervals were made, in words.
    """

    measure: str
    whole: Compared
    classes: list[Compared] = field(default_factory=list)
    groups: dict[str, list[Compared]] = field(default_factory=dict)
    intervals: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns everything in a form that JSON can hold."""
        return {
            "measure": self.measure,
            "whole": self.whole.to_dict(),
            "classes": [part.to_dict() for part in self.classes],
            "groups": {
                name: [part.to_dict() for part in parts] for name, parts in self.groups.items()
            },
            "intervals": self.intervals,
        }


@dataclass(frozen=True)
class ChangedSample:
    """A sample whose answer changed much.

    Attributes:
        index: Its place among the samples, from 0 on.
        source: Among which: "evaluation" or "calibration".
        float_answer, answer: What the float network and the deployed one name, "" where outputs name nothing.
        right_answer: What is right, "" where that is not known.
        snr_db: Power of the float network's outputs for this sample over that of the differences, in decibels.
        picture: The input as the data URI of a PNG, "" where it is no picture.
        values: The input in words, "" where it is a picture.
    """

    index: int
    source: str
    float_answer: str
    answer: str
    right_answer: str
    snr_db: float
    picture: str = ""
    values: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in a form that JSON can hold."""
        return dict(vars(self))


def _list(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)
