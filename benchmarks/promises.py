"""Counts how often what `deploy` promises is kept on data that it has not seen, over many random splits.

Plans of a network are made once, by calibration samples alone: int8 with ranges chosen in several ways, some layers or
all in float32, weights of fewer bits. For each of 100 random splits of the labelled samples the plan is chosen on one
half by `edgekit.search.promises`, as in `deploy`, and judged on the other: is the figure there lower than float's by
more than `max_drop`? The naive way, the fastest plan whose figure on the first half is within the bound, is counted
beside it. `max_ms` is judged by timing the plan anew, `max_mb` by what it holds, all three together by each of these.

    PYTHONPATH=examples python benchmarks/promises.py DS-CNN --json build/promises.json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from rich.console import Console
from rich.table import Table

import edgekit
from edgekit import Classification
from edgekit.benchmark import make_inputs
from edgekit.choosing.closest import to_decibels
from edgekit.choosing.goal import Goal
from edgekit.converters.noise import relative_noise, worst_noise
from edgekit.promise import Scores
from edgekit.search.front import MEASURED, Point
from edgekit.search.promises import Promises, choose_point
from edgekit.session import Session
from edgekit.targets.errors import AccuracyError, EdgekitError, PromiseError
from edgekit.timing import describe_machine, measure_rounds
from filetypes import score_files
from find_data import find_data, read_idx
from networks import NETWORKS, UNTIMED, Network, normalize_clothes

SPLITS = 100
WANTED = 95
DROPS = (0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03)
# Of the fastest plan's median time.
SHARES = (0.95, 1.0, 1.02, 1.05, 1.1, 1.25, 2.0)
# In the memory of the smallest plan: drops near its own.
IN_LITTLE = (0.005, 0.0075, 0.01, 0.0125, 0.015)
# All at once: drops, and a share of the fastest and of the slowest plan's median time.
TOGETHER = (0.002, 0.005, 0.01)
ROOM = 1.1
BITS = (5, 4, 3)
NONE = "no plan"
RANGES = ("minmax", "percentile", "mse", "entropy")

console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)


@dataclass(frozen=True)
class Made:
    """A plan of a network.

    Attributes:
        name: How it was made.
        noise: Power of its differences from float over that of float's answers, on calibration samples.
        worst: The same of the sample that suffers most.
        scores: On all labelled samples.
        session: Runs it.
        bytes: That it holds.
    """

    name: str
    noise: float
    worst: float
    scores: Scores
    session: Session
    bytes: int


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


def score_clothes(session: Session) -> Scores:
    """Returns 1 for each of Fashion-MNIST's 10,000 test images whose class is found, and 0 for the others."""
    folder = find_data("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist")
    images = normalize_clothes(read_idx(folder / "t10k-images-idx3-ubyte.gz"))
    answers = read_idx(folder / "t10k-labels-idx1-ubyte.gz").astype(np.int64)
    return Classification([{"image": image} for image in images], answers).scores(session)


SCORES: dict[str, Callable[[Session], Scores]] = {
    "DS-CNN": score_clothes,
    "CNN": score_clothes,
    "magika": score_files,
}


def make_plans(network: Network, folder: Path) -> tuple[list[Made], Scores]:
    """Returns the plans, and the float model's scores."""
    model = folder / "float.onnx"
    network.write(model)
    samples = network.read_samples(folder)
    score = SCORES[network.name]
    float_session = edgekit.load(model)
    wanted = [float_session.run(sample) for sample in samples]
    deploy = partial(edgekit.deploy, calibration=samples, format="native", **network.arguments)
    made = []

    def make(name: str, source: Path, **how: Any) -> edgekit.Deployment | None:
        try:
            deployment = deploy(source, output=folder / name, **how)
        except EdgekitError as error:
            console.print(f"[bold yellow]LEFT OUT[/] {network.name}, {name}: {error}")
            return None
        session = deployment.load()
        given = [session.run(sample) for sample in samples]
        noise, worst = relative_noise(wanted, given), worst_noise(wanted, given)
        assert deployment.report.memory is not None
        held = deployment.report.memory.resident_bytes()
        made.append(Made(name, noise, worst, score(session), session, held))
        return deployment

    int8 = None
    for ranges in RANGES:
        int8 = make(f"int8 {ranges}", model, ranges=ranges, precision="int8") or int8
    assert int8 is not None
    layers = [
        layer.name
        for layer in int8.report.layers
        if layer.kind in ("Conv", "DepthwiseConv", "FullyConnected", "MatMul")
    ]
    how = {"ranges": "mse", "precision": "int8"}
    make("float32", model, **how, formats=dict.fromkeys(layers, "float32"))
    make("ends float32", model, **how, formats=dict.fromkeys({layers[0], layers[-1]}, "float32"))
    make("half float32", model, **how, formats=dict.fromkeys(layers[::2], "float32"))
    make("int4", model, **how, formats=dict.fromkeys(layers, "int4"))
    make("half int4", model, **how, formats=dict.fromkeys(layers[1::2], "int4"))
    for bits in BITS:
        rounded = round_weights(model, bits, folder / f"{bits}.onnx")
        make(f"weights of {bits} bits", rounded, **how)
    return made, score(float_session)


def round_weights(model: Path, bits: int, path: Path) -> Path:
    """Writes a network whose weights take ``2^bits - 1`` values in each output channel, evenly spaced around 0."""
    proto = onnx.load(model)
    most = 2 ** (bits - 1) - 1
    for tensor in proto.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.dtype != np.float32 or weights.ndim < 2:
            continue
        others = tuple(range(1, weights.ndim)) if weights.ndim > 2 else (0,)
        scale = np.maximum(np.abs(weights).max(axis=others, keepdims=True), 1e-30) / most
        rounded = (np.rint(weights / scale) * scale).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    onnx.save(proto, path)
    return path


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
    snr_db: float
    worst: float
    noise: float
    plain_noise: float
    plain_worst: float
    changed: float | None = None


def choose(
    made: Sequence[Made],
    reference: Scores,
    half: npt.NDArray[np.int64],
    times: Mapping[str, list[float]],
    asked: Mapping[str, float],
) -> str | None:
    """Returns the plan that `deploy` would choose by one half of the samples, None where it says that there is none."""
    points = [
        Point(plan.name, None, plan.noise, median(times[plan.name]), plan.bytes, plan.bytes)
        for plan in made
    ]
    built: Any = {
        plan.name: Built(
            Answered(plan.scores[half]),
            to_decibels(plan.noise),
            plan.worst,
            plan.noise,
            plan.noise,
            plan.worst,
        )
        for plan in made
    }
    session: Any = reference[half]
    evaluate: Any = Recorded()
    goal = Goal(evaluate, session, asked.get("max_drop"))
    try:
        return choose_point(points, built, times, Promises(**asked), goal, MEASURED).name
    except (PromiseError, AccuracyError):
        return None


def time_plans(made: Sequence[Made], seconds: float) -> dict[str, list[float]]:
    """Returns medians of rounds in milliseconds, of all plans in turns."""
    inputs = make_inputs(made[0].session.inputs)
    calls = {plan.name: partial(plan.session.run, inputs) for plan in made}
    return measure_rounds(calls, threads=1, seconds=seconds)


def list_counts(made: Sequence[Made], times: Mapping[str, list[float]]) -> list[Count]:
    """Returns what is asked for: bounds of one kind each, and of all at once."""
    medians = [median(times[plan.name]) for plan in made]
    sizes = sorted({plan.bytes for plan in made})
    asked: list[dict[str, float]] = [{"max_drop": bound} for bound in DROPS]
    asked += [{"max_ms": share * min(medians)} for share in SHARES]
    asked += [{"max_mb": size / 1e6} for size in (sizes[0] - 1, *sizes)]
    asked += [{"max_drop": bound, "max_mb": sizes[0] / 1e6} for bound in IN_LITTLE]
    asked += [
        {"max_drop": bound, "max_ms": ROOM * time, "max_mb": sizes[-1] / 1e6}
        for bound in TOGETHER
        for time in (min(medians), max(medians))
    ]
    return [Count(each) for each in asked]


def count_promises(
    made: Sequence[Made], reference: Scores, splits: int, seconds: float
) -> list[Count]:
    """Returns how often promises were kept on the other half of the samples, and by timing anew."""
    counts = list_counts(made, time_plans(made, 4 * seconds))
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(reference.size)
        seen, unseen = np.split(order, [reference.size // 2])
        times = time_plans(made, seconds)
        before = tell_figures(made, reference, seen, times)
        after = tell_figures(made, reference, unseen, time_plans(made, seconds))
        for count in counts:
            count.add(choose(made, reference, seen, times, count.asked), before, after)
    return counts


def tell_figures(
    made: Sequence[Made],
    reference: Scores,
    half: npt.NDArray[np.int64],
    times: Mapping[str, list[float]],
) -> dict[str, dict[str, float]]:
    """Returns of each plan what is bounded: its drop on a half, median milliseconds, and 10^6 bytes."""
    return {
        plan.name: {
            "max_drop": float(reference[half].mean() - plan.scores[half].mean()),
            "max_ms": median(times[plan.name]),
            "max_mb": plan.bytes / 1e6,
        }
        for plan in made
    }


def show(network: str, made: Sequence[Made], reference: Scores, counts: Sequence[Count]) -> None:
    """Prints the plans and what became of the promises."""
    plans = Table("plan", "noise", "figure", "drop", "holds", title=f"{network}: plans")
    for plan in sorted(made, key=lambda plan: plan.noise):
        drop = reference.mean() - plan.scores.mean()
        plans.add_row(
            plan.name,
            f"{plan.noise:.2e}",
            f"{plan.scores.mean():.4f}",
            f"{100 * drop:+.2f} points",
            f"{plan.bytes / 1e6:.3f} MB",
        )
    console.print(plans)
    heads = ("asked", "kept", "broken", NONE, "naive broken", "chosen")
    table = Table(*heads, title=f"{network}: promises")
    for count in counts:
        chosen = ", ".join(f"{name} {times}" for name, times in count.chosen.most_common(4))
        cells = (count.kept, count.broken, count.none, count.naive_broken)
        table.add_row(str(count), *map(str, cells), chosen)
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", help="parts of names; default: all that have scores")
    parser.add_argument("--splits", type=int, default=SPLITS)
    parser.add_argument("--seconds", type=float, default=0.5, help="to time all plans, each time")
    parser.add_argument("--json", type=Path, help="write everything that was measured to this file")
    arguments = parser.parse_args()
    names = [word.lower() for word in arguments.networks]
    records, is_good = [], True
    for network in (*NETWORKS, *UNTIMED):
        if network.name not in SCORES:
            continue
        if names and not any(word in network.name.lower() for word in names):
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                made, reference = make_plans(network, Path(folder))
            except FileNotFoundError as error:
                console.print(f"[bold yellow]LEFT OUT[/] {network.name}: {error}")
                continue
            counts = count_promises(made, reference, arguments.splits, arguments.seconds)
            times = time_plans(made, 4 * arguments.seconds)
        show(network.name, made, reference, counts)
        is_good &= all(count.broken <= arguments.splits * (100 - WANTED) / 100 for count in counts)
        records.append(
            {
                "network": network.name,
                "samples": reference.size,
                "float": float(reference.mean()),
                "plans": [
                    {"name": plan.name, "noise": plan.noise, "figure": float(plan.scores.mean()),
                     "bytes": plan.bytes, "milliseconds": median(times[plan.name])}
                    for plan in made
                ],
                "counts": [{**vars(count), "chosen": dict(count.chosen)} for count in counts],
            }
        )  # fmt: skip
    console.print(str(describe_machine()))
    console.print(
        f"every promise kept in at least {WANTED} of 100 splits: {'yes' if is_good else 'NO'}"
    )
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "splits": arguments.splits,
            "records": records,
            "measured_on": asdict(describe_machine()),
        }
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0 if is_good and records else 1


if __name__ == "__main__":
    sys.exit(main())
