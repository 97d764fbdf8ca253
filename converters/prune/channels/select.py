"""Chooses how many units of each space go, so that a budget is met and least is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgekit.converters.prune.channels.channels import Space
from edgekit.converters.prune.channels.costs import Costs, Counts
from edgekit.converters.prune.channels.importance import Order


def choose_step(space: Space, multiple: int) -> int:
    """Returns what the width of a space is a multiple of: ``multiple``, or a smaller power of 2 where it is narrow.

    A space has four steps at least, if it has four channels.
    """
    full = len(space.units) * space.width + space.fixed
    step = max(multiple, 1)
    while step > 1 and step * 4 > full:
        step //= 2
    return step


def allowed_counts(space: Space, step: int) -> list[int]:
    """Returns how many units of a space may go, rising from 0, so that a multiple of ``step`` stays, at least one."""
    full = len(space.units) * space.width + space.fixed
    counts = [0]
    for count in range(1, len(space.units) + 1):
        left = full - count * space.width
        if left % step == 0 and left >= step:
            counts.append(count)
    return counts


def select(
    orders: Sequence[Order], costs: Costs, target: float, steps: Sequence[int]
) -> tuple[dict[Space, tuple[int, ...]], float]:
    """Returns the units of each space to cut, and what the graph then costs.

    ``steps`` are what widths are multiples of. The cut that loses least for what it saves is made, over several widths
    at once where that is better, until the cost is at most ``target`` or nothing is left to cut; then units are given
    back that the target leaves room for.
    """
    gone = [costs.widths(order.units) for order in orders]
    choices = [allowed_counts(order.space, step) for order, step in zip(orders, steps, strict=True)]
    taken = [0] * len(orders)

    def sum_up(counts: Sequence[int]) -> Counts:
        whole = costs.nothing()
        for place, count in enumerate(counts):
            whole = whole + gone[place][:, count]
        return whole

    cost = costs.total(sum_up(taken))
    while cost > target:
        best: tuple[float, int, int, float] | None = None
        for place, order in enumerate(orders):
            for count in choices[place]:
                if count <= taken[place]:
                    continue
                after = costs.total(sum_up([*taken[:place], count, *taken[place + 1 :]]))
                lost = order.losses[count] - order.losses[taken[place]]
                if after >= cost:
                    continue
                # What is saved beyond the target is worth nothing.
                rate = float(lost) / (cost - max(after, target))
                if best is None or rate < best[0]:
                    best = rate, place, count, after
        if best is None:
            break
        _, place, count, cost = best
        taken[place] = count
    _take_back(orders, choices, taken, lambda counts: costs.total(sum_up(counts)), target)
    cut = {
        order.space: order.units[:count]
        for order, count in zip(orders, taken, strict=True)
        if count
    }
    return cut, costs.total(sum_up(taken))


def _take_back(
    orders: Sequence[Order],
    choices: Sequence[Sequence[int]],
    taken: list[int],
    price: Callable[[Sequence[int]], float],
    target: float,
) -> None:
    """Gives units back, those first that gain most, as long as the target allows it."""
    while True:
        best: tuple[float, int, int] | None = None
        for place, order in enumerate(orders):
            for count in choices[place]:
                if count >= taken[place]:
                    continue
                gain = float(order.losses[taken[place]] - order.losses[count])
                if best is not None and gain <= best[0]:
                    continue
                if price([*taken[:place], count, *taken[place + 1 :]]) <= target:
                    best = gain, place, count
        if best is None:
            return
        taken[best[1]] = best[2]
