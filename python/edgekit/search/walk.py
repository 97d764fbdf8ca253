"""Plans along the sensitivities: the cheapest at each price of noise, as far as parts' costs add up.

Noise is paid for like time, at a price; every plan that is cheapest at some price is the fastest of those that are no
noisier (Everett, "Generalized Lagrange multiplier method", 1963). Parts are settled one after another until none gains
by another format (iterated conditional modes: Besag, "On the statistical analysis of dirty pictures", 1986).
"""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.converters.number_formats import NumberFormat
from edgekit.search.estimate import Costs
from edgekit.search.space import FLOAT32, Choice

# Powers of four that the price of noise takes, of the time of all layers for their noise.
_POWERS = tuple(float(power) for power in range(-8, 9))
# The same, and those between, where bytes have no price.
_HALF_POWERS = tuple(power / 2 for power in range(-16, 17))
_SWEEPS = 6
# Noise of a plan over that of its neighbour, from which on plans between them are looked for (0.5 dB), and how often.
_MUCH = 1.12
_HALVINGS = 6


def walk(costs: Costs, starts: Sequence[Choice] = (), *, for_bytes: bool = True) -> list[Choice]:
    """Returns plans from the least noise to the least time and bytes, none twice.

    Args:
        costs: What parts cost.
        starts: Further plans to begin from, beside all in int8 and all in float32.
        for_bytes: Whether plans are wanted that are smaller, if slower, too.
    """
    parts = costs.parts
    options = [costs.list_formats(part) for part in parts]
    int8 = [NumberFormat.INT8 if NumberFormat.INT8 in o else o[-1] for o in options]
    given = [start.spell(parts) for start in starts]
    begins = [int8, [FLOAT32] * len(parts), *given]
    time = sum(costs.microseconds.get((part.name, FLOAT32), 0.0) for part in parts)
    noise = sum(costs.noise.get((p.name, f), 0.0) for p, f in zip(parts, int8, strict=True))
    size = sum(-costs.bytes.get((p.name, f), 0.0) for p, f in zip(parts, int8, strict=True))
    unit = max(time, 1e-9) / max(noise, 1e-30)
    found: dict[Choice, None] = {}
    prices = (0.0, max(time, 1e-9) / max(size, 1.0)) if for_bytes else (0.0,)
    for byte_price in prices:
        before: tuple[float, list[NumberFormat]] | None = None
        for power in reversed(_POWERS if for_bytes else _HALF_POWERS):
            price = unit * 4.0**power
            settled = [_settle(costs, options, list(begin), price, byte_price) for begin in begins]
            best = min(settled, key=lambda plan: _price(costs, plan, price, byte_price))
            found[_choose(costs, best)] = None
            # The next price is lower: what was best here is near what is best there.
            begins = [*begins[:2], best, *given]
            if not for_bytes and before is not None:
                for plan in _list_between(costs, options, before, (price, best), _HALVINGS):
                    found[_choose(costs, plan)] = None
            before = (price, best)
    return list(found)


def _list_between(
    costs: Costs,
    options: Sequence[Sequence[NumberFormat]],
    dear: tuple[float, list[NumberFormat]],
    cheap: tuple[float, list[NumberFormat]],
    depth: int,
) -> list[list[NumberFormat]]:
    """Returns the plans at prices of noise between two, where these plans differ much."""
    ratio = _noise(costs, cheap[1]) / max(_noise(costs, dear[1]), 1e-30)
    if depth == 0 or ratio < _MUCH or not _noise(costs, dear[1]):
        return []
    price = (dear[0] * cheap[0]) ** 0.5
    settled = [_settle(costs, options, list(plan), price, 0.0) for _, plan in (dear, cheap)]
    best = min(settled, key=lambda plan: _price(costs, plan, price, 0.0))
    middle = (price, best)
    return [
        *_list_between(costs, options, dear, middle, depth - 1),
        best,
        *_list_between(costs, options, middle, cheap, depth - 1),
    ]


def _noise(costs: Costs, plan: Sequence[NumberFormat]) -> float:
    return costs.noise_of(plan)


def _choose(costs: Costs, formats: Sequence[NumberFormat]) -> Choice:
    return Choice.of({part.name: f for part, f in zip(costs.parts, formats, strict=True)})


def _price(costs: Costs, plan: Sequence[NumberFormat], noise: float, size: float) -> float:
    own = sum(costs.of_part(p, f, noise, size) for p, f in zip(costs.parts, plan, strict=True))
    shared = sum(costs.shared_by(pair, plan) for pair in costs.twice)
    return own + sum(costs.of_link(link, plan) for link in costs.links) - noise * shared


def _settle(
    costs: Costs,
    options: Sequence[Sequence[NumberFormat]],
    plan: list[NumberFormat],
    noise: float,
    size: float,
) -> list[NumberFormat]:
    """Gives each part in turn the format that is cheapest beside its neighbours', until nothing changes."""
    touching: list[list[int]] = [[] for _ in costs.parts]
    for place, link in enumerate(costs.links):
        for part in {link.maker, *link.readers} - {-1}:
            touching[part].append(place)
    sharing: list[list[tuple[int, int]]] = [[] for _ in costs.parts]
    for pair in costs.twice:
        for part in pair:
            sharing[part].append(pair)
    for sweep in range(_SWEEPS):
        changed = False
        places = range(len(plan)) if sweep % 2 == 0 else range(len(plan) - 1, -1, -1)
        for place in places:
            before = plan[place]
            prices = []
            for format in options[place]:
                plan[place] = format
                own = costs.of_part(costs.parts[place], format, noise, size)
                linked = sum(costs.of_link(costs.links[i], plan) for i in touching[place])
                shared = sum(costs.shared_by(pair, plan) for pair in sharing[place])
                prices.append(own + linked - noise * shared)
            plan[place] = options[place][prices.index(min(prices))]
            changed |= plan[place] is not before
        if not changed:
            break
    return plan
