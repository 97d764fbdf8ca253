"""Promises of several plans: tested in one fixed order, from the safest to the fastest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class _Promise(Protocol):
    @property
    def is_kept(self) -> bool: ...


P = TypeVar("P")
R = TypeVar("R", bound=_Promise)


@dataclass(frozen=True)
class Accepted(Generic[P, R]):
    """The plans that keep a promise, of those that were tried in order.

    Attributes:
        plans: Those that keep it, in the order in which they were tried; all of them with the one confidence.
        promises: What was found of each that was tried, the first that failed among it.
        failed: The plan at which it stopped, None where all keep it.
    """

    plans: list[P]
    promises: list[R]
    failed: P | None


def accept_in_order(plans: Iterable[P], promise: Callable[[P], R]) -> Accepted[P, R]:
    """Tests plans in turn and stops at the first whose promise is not kept.

    Any of the accepted may then be chosen, such as the fastest: the chance that one of them breaks its promise is at
    most the one of a single test, since a wrong one is accepted only if the first wrong one is (fixed sequence testing:
    Angelopoulos, Bates, Candes, Jordan and Lei, "Learn then Test", 2021). That needs an order which was made without
    the samples that are tested on, such as by the noise on calibration samples: from the safest plan to the fastest.

    Args:
        plans: In that order; a plan is taken only when those before it were accepted.
        promise: Tests one plan, at the full confidence.
    """
    accepted: list[P] = []
    promises: list[R] = []
    for plan in plans:
        promises.append(promise(plan))
        if not promises[-1].is_kept:
            return Accepted(accepted, promises, plan)
        accepted.append(plan)
    return Accepted(accepted, promises, None)
