"""Counts how often what `deploy` promises is kept on data that it has not seen, over many random splits.

Plans of a network are made once, by calibration samples alone (`promised_plans.py`): those of `deploy`'s own search,
and others that lose more. For each of 100 random splits of the labelled samples a plan is chosen on one half by
`edgekit.search.promises`, as in `deploy`, and judged on the other: is the figure there lower than float's by more than
`max_drop`? The naive way, the fastest plan whose figure on the first half is within the bound, is counted beside it.
`max_ms` is chosen by one half of the rounds in which plans were timed and judged by the other, or, with `--anew`, by
timing the plans for each split and then once more; `max_mb` is judged by what the plan holds, all together by each of
these. Plans and their scores are kept, so that another run takes no more than the splits do.

    PYTHONPATH=examples python benchmarks/promises.py DS-CNN --json build/promises.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from contest import choose as choose_networks
from edgekit.benchmark import make_inputs
from edgekit.choosing.goal import Goal
from edgekit.promise import Scores
from edgekit.search.front import MEASURED, keep_front
from edgekit.search.promises import Promises, choose_point
from edgekit.targets.errors import AccuracyError, PromiseError
from edgekit.timing import describe_machine, measure_rounds
from networks import UNTIMED
from promised_plans import FAST, MADE, SCORES, SMALL, Maker, Plan, Plans

SPLITS = 100
WANTED = 95
DROPS = (
    0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075,
    0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1,
)  # fmt: skip
# Of the fastest plan's median time.
SHARES = (0.95, 1.0, 1.02, 1.05, 1.1, 1.25, 2.0)
# In the memory of the smallest plan: drops near its own.
IN_LITTLE = (0.005, 0.0075, 0.01, 0.0125, 0.015, 0.05)
# All at once: drops, and a share of the fastest and of the slowest plan's median time.
TOGETHER = (0.002, 0.005, 0.01, 0.05)
ROOM = 1.1
# In which `deploy` times plans.
ROUNDS = 31
NONE = "no plan"
KINDS = (FAST, SMALL, MADE)

Times = Mapping[str, list[float]]

console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)


@dataclass
class Count:
    """What became of promises over the splits.

    Attributes:
        asked: What was asked for, as `Promises` takes it.
        kept, broken, none: Splits; ``none`` where no plan could be promised.
        naive_broken: Splits in which a plan that was chosen by figures alone broke it.
        chosen: How often each plan was.
    """

    asked: dict[str, float]
    kept: int = 0
    broken: int = 0
    none: int = 0
    naive_broken: int = 0
    chosen: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return ", ".join(f"{name} {bound:.4g}" for name, bound in self.asked.items())

    def keeps(self, figures: Mapping[str, float]) -> bool:
        """Returns whether a plan of these figures is within what was asked for.

        Drops are multiples of a sample's share: a difference of the last bit breaks nothing.
        """
        return all(figures[name] <= bound * (1 + 1e-12) for name, bound in self.asked.items())

    def add(
        self,
        name: str | None,
        seen: Mapping[str, Mapping[str, float]],
        unseen: Mapping[str, Mapping[str, float]],
    ) -> None:
        """Counts one split.

        Args:
            name: Of the chosen plan, None where there is none.
            seen: Figures of each plan that it was chosen by.
            unseen: Those that it is judged by.
        """
        naive = [name for name in seen if self.keeps(seen[name])]
        if naive:
            fastest = min(naive, key=lambda name: seen[name]["max_ms"])
            self.naive_broken += not self.keeps(unseen[fastest])
        if name is None:
            self.none += 1
            self.chosen[NONE] += 1
            return
        self.chosen[name] += 1
        if self.keeps(unseen[name]):
            self.kept += 1
        else:
            self.broken += 1


class Recorded:
    """An `evaluate` of scores that were taken before: a session is these scores."""

    def __call__(self, session: Scores) -> float:
        return float(session.mean())

    def scores(self, session: Scores) -> Scores:
        return session


@dataclass(frozen=True)
class Answered:
    """Forms in place of which their scores are asked."""

    session: Scores


@dataclass(frozen=True)
class Built:
    """A plan as `Goal` measures it."""

    forms: Answered
    noise: float
    worst: float
    plain_noise: float
    plain_worst: float
    changed: float | None


def choose(
    plans: Plans,
    half: npt.NDArray[np.int64],
    times: Times,
    asked: Mapping[str, float],
) -> str | None:
    """Returns the plan that `deploy` would choose by one half of the samples, None where it says that there is none."""
    points = [plan.to_point(median(times[plan.name])) for plan in plans.plans]
    built: Any = {
        plan.name: Built(
            Answered(plan.scores[half]),
            plan.noise,
            plan.worst,
            plan.plain_noise,
            plan.plain_worst,
            plan.changed,
        )
        for plan in plans.plans
    }
    session: Any = plans.reference[half]
    evaluate: Any = Recorded()
    goal = Goal(evaluate, session, asked.get("max_drop"))
    front = keep_front(points)
    try:
        return choose_point(front, built, times, Promises(**asked), goal, MEASURED).name
    except (PromiseError, AccuracyError):
        return None


def time_plans(plans: Sequence[Plan], seconds: float, rounds: int) -> Times:
    """Returns medians of rounds in milliseconds, of all plans in turns."""
    inputs = make_inputs(plans[0].session.inputs)
    calls = {plan.name: partial(plan.session.run, inputs) for plan in plans}
    return measure_rounds(calls, threads=1, seconds=seconds, rounds=rounds)


def halve(times: Times, seed: int) -> tuple[Times, Times]:
    """Returns one half of the rounds, by chance, and the other."""
    count = len(next(iter(times.values())))
    order = np.random.default_rng(seed).permutation(count)
    return (
        {name: [own[i] for i in order[: count // 2]] for name, own in times.items()},
        {name: [own[i] for i in order[count // 2 :]] for name, own in times.items()},
    )


def list_counts(plans: Plans, times: Times) -> list[Count]:
    """Returns what is asked for: bounds of one kind each, and several at once."""
    medians = [median(own) for own in times.values()]
    sizes = sorted({plan.memory_bytes for plan in plans.plans})
    asked: list[dict[str, float]] = [{"max_drop": bound} for bound in DROPS]
    asked += [{"max_ms": share * min(medians)} for share in SHARES]
    ends = (min(medians), max(medians))
    asked += [{"max_mb": size / 1e6} for size in (sizes[0] - 1, *sizes)]
    asked += [{"max_drop": bound, "max_mb": sizes[0] / 1e6} for bound in IN_LITTLE]
    asked += [
        {"max_drop": bound, "max_ms": ROOM * time, "max_mb": sizes[-1] / 1e6}
        for bound in TOGETHER
        for time in ends
    ]
    return [Count(each) for each in asked]


def count_promises(plans: Plans, splits: int, seconds: float, *, anew: bool) -> list[Count]:
    """Returns how often promises were kept on the other half of the samples and of the rounds.

    Args:
        plans: To choose from.
        splits: How many.
        seconds: To time all plans in `ROUNDS` rounds.
        anew: Whether plans are timed for each split, and then once more; only times are asked for then.
    """
    times = time_plans(plans.plans, 2 * seconds, 2 * ROUNDS)
    counts = list_counts(plans, times)
    if anew:
        counts = [count for count in counts if "max_ms" in count.asked]
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(plans.reference.size)
        seen, unseen = np.split(order, [plans.reference.size // 2])
        if anew:
            now, later = (time_plans(plans.plans, seconds, ROUNDS) for _ in range(2))
        else:
            now, later = halve(times, seed)
        before, after = tell_figures(plans, seen, now), tell_figures(plans, unseen, later)
        for count in counts:
            count.add(choose(plans, seen, now, count.asked), before, after)
    return counts


def tell_figures(
    plans: Plans, half: npt.NDArray[np.int64], times: Times
) -> dict[str, dict[str, float]]:
    """Returns of each plan what is bounded: its drop on a half, median milliseconds, and 10^6 bytes."""
    return {
        plan.name: {
            "max_drop": float(plans.reference[half].mean() - plan.scores[half].mean()),
            "max_ms": median(times[plan.name]),
            "max_mb": plan.memory_bytes / 1e6,
        }
        for plan in plans.plans
    }


def show(network: str, plans: Plans, counts: Sequence[Count]) -> None:
    """Prints the plans and what became of the promises."""
    title = f"{network}, {plans.kind}, {plans.reference.size} samples"
    listed = Table("plan", "noise", "figure", "drop", "holds", title=f"{title}: plans")
    for plan in sorted(plans.plans, key=lambda plan: plan.noise):
        drop = plans.reference.mean() - plan.scores.mean()
        listed.add_row(
            plan.name,
            f"{plan.noise:.2e}",
            f"{plan.scores.mean():.4f}",
            f"{100 * drop:+.2f} points",
            f"{plan.memory_bytes / 1e6:.3f} MB",
        )
    console.print(listed)
    heads = ("asked", "kept", "broken", NONE, "naive broken", "chosen")
    table = Table(*heads, title=f"{title}: promises")
    for count in counts:
        chosen = ", ".join(f"{name} {times}" for name, times in count.chosen.most_common(4))
        cells = (count.kept, count.broken, count.none, count.naive_broken)
        table.add_row(str(count), *map(str, cells), chosen)
    console.print(table)


COLUMNS = ("network", "plans", "asked", "bounds", "made", "kept", "most broken", "naively")


def sum_up(records: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Yields a row for each network, set of plans and kind of promise; ends with the most broken of any one bound."""
    for record in records:
        kinds: dict[str, list[Mapping[str, Any]]] = {}
        for count in record["counts"]:
            kinds.setdefault(", ".join(count["asked"]), []).append(count)
        for kind, counts in kinds.items():
            kept, broken = (sum(count[key] for count in counts) for key in ("kept", "broken"))
            yield (
                record["network"],
                record["plans_of"],
                kind,
                str(len(counts)),
                str(kept + broken),
                f"{100 * kept / (kept + broken):.2f} %" if kept + broken else "",
                str(max(count["broken"] for count in counts)),
                str(max(count["naive_broken"] for count in counts)),
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", help="parts of names; default: all that have scores")
    parser.add_argument("--plans", nargs="*", choices=KINDS, default=KINDS, help="sets of plans")
    parser.add_argument("--splits", type=int, default=SPLITS)
    parser.add_argument("--seconds", type=float, default=3.0, help="to time all plans")
    parser.add_argument("--anew", action="store_true", help="time plans anew for each split")
    parser.add_argument("--folder", type=Path, default=Path("build/promises"), help="keeps plans")
    parser.add_argument("--prepare", action="store_true", help="only make the plans")
    parser.add_argument("--json", type=Path, help="write everything that was measured to this file")
    parser.add_argument("--markdown", type=Path, help="write the last table to this file")
    arguments = parser.parse_args()
    records: list[dict[str, Any]] = []
    chosen = choose_networks(arguments.networks or list(SCORES), UNTIMED)
    for network in (each for each in chosen if each.name in SCORES):
        try:
            folder = arguments.folder.resolve() / network.name.replace(" ", "_")
            maker = Maker(network, folder, console.print)
            sets = [maker.make(kind) for kind in arguments.plans]
        except FileNotFoundError as error:
            console.print(f"[bold yellow]LEFT OUT[/] {network.name}: {error}")
            continue
        for plans in () if arguments.prepare else sets:
            counts = count_promises(plans, arguments.splits, arguments.seconds, anew=arguments.anew)
            show(network.name, plans, counts)
            records.append(
                {
                    "network": network.name,
                    "plans_of": plans.kind,
                    "samples": plans.reference.size,
                    "float": float(plans.reference.mean()),
                    "plans": [
                        {
                            "name": plan.name,
                            "noise": plan.noise,
                            "figure": float(plan.scores.mean()),
                            "bytes": plan.memory_bytes,
                        }
                        for plan in plans.plans
                    ],
                    "counts": [{**vars(count), "chosen": dict(count.chosen)} for count in counts],
                }
            )
    if arguments.prepare:
        return 0
    table = Table(*COLUMNS, title="broken: of the splits of any one bound")
    for row in sum_up(records):
        table.add_row(*row)
    console.print(table)
    console.print(str(describe_machine()))
    most = max((count["broken"] for record in records for count in record["counts"]), default=0)
    is_good = bool(records) and most <= arguments.splits * (100 - WANTED) / 100
    console.print(
        f"no promise broken in more than {100 - WANTED} of 100 splits: {'yes' if is_good else 'NO'}"
    )
    if arguments.markdown:
        rows = (COLUMNS, ("---",) * len(COLUMNS), *sum_up(records))
        arguments.markdown.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(f"| {' | '.join(row)} |\n" for row in rows)
        arguments.markdown.write_text(text, encoding="utf-8")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "splits": arguments.splits,
            "timed_anew": arguments.anew,
            "records": records,
            "measured_on": asdict(describe_machine()),
        }
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
