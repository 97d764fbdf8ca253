"""Counts how often what `deploy` promises of answers without labels is kept on samples that it has not seen.

Again and again other samples are drawn to calibrate with, `deploy` searches for plans with them, and of each of its
plans the share of answers that may be others is told by half of these samples, as `deploy` tells it. For every bound
the fastest plan is taken of which that is promised, and judged by thousands of other samples: are more of its answers
others than float's? The naive way, by the estimate without its error, is counted beside it.

    PYTHONPATH=examples python benchmarks/unlabelled.py DS-CNN CNN --samples 16 48 --json build/unlabelled.json
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

import edgekit
from comparing import read_largest
from contest import choose as choose_networks
from edgekit.choosing.closest import Candidate
from edgekit.data import Sample
from edgekit.session import Session
from edgekit.targets.errors import PromiseError
from edgekit.timing import describe_machine
from filetypes import list_files
from find_data import find_data, read_idx
from networks import UNTIMED, Network, normalize_clothes

DRAWS = 6
BOUNDS = (0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05)
# So that plans of all kinds are looked for.
_ASKED = 0.02
_FILES = 1000
CONFIDENCE = 0.95

console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)


@dataclass(frozen=True)
class Tried:
    """A plan of a search.

    Attributes:
        name: How it was found.
        share: Of the answers that may be others, by the samples that are held out.
        at_most: The same with confidence.
        found: Of other samples' answers, the share that are others.
        milliseconds: Of a run.
    """

    name: str
    share: float
    at_most: float
    found: float
    milliseconds: float


@dataclass
class Count:
    """What became of promises.

    Attributes:
        made: How many.
        broken: Those of plans that changed more answers of other samples.
        naively: The same of plans whose estimate alone is within the bound.
    """

    made: int = 0
    broken: int = 0
    naively: int = 0


def read_clothes() -> tuple[list[Sample], list[Sample]]:
    """Returns Fashion-MNIST's training images, to calibrate with, and its test images."""
    folder = find_data("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist")
    train, test = (
        [{"image": image} for image in normalize_clothes(read_idx(folder / f"{name}.gz"))]
        for name in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")
    )
    return train, test


def read_files() -> tuple[list[Sample], list[Sample]]:
    """Returns files to calibrate with and others."""
    files = list_files()
    order = np.random.default_rng(0).permutation(len(files))
    samples: list[Sample] = [{"bytes": files[index]} for index in order]
    return samples[_FILES:], samples[:_FILES]


DATA = {"DS-CNN": read_clothes, "CNN": read_clothes, "magika": read_files}


def answer(session: Session, samples: Sequence[Sample]) -> npt.NDArray[np.intp]:
    return np.concatenate([read_largest(session.run(sample)) for sample in samples])


def search(
    network: Network, samples: list[Sample], judges: Sequence[Sample], wanted: npt.NDArray[np.intp]
) -> list[Tried]:
    """Returns the plans that a search makes of calibration samples, with what they make of others.

    Args:
        network: To deploy.
        samples: To calibrate with.
        judges: Others.
        wanted: What float answers to these.
    """
    found: dict[str, Tried] = {}
    # Of the same name as what its package exports.
    module = importlib.import_module("edgekit.search.find_plan")
    choose = module.choose_point

    def judge(
        points: object,
        built: Mapping[str, Candidate],
        times: Mapping[str, Sequence[float]],
        *others: Any,
    ) -> Any:
        for name, candidate in built.items():
            turned = candidate.turned
            assert turned is not None
            if name not in found:
                changed = float((answer(candidate.forms.session, judges) != wanted).mean())
                share, at_most = turned.share, turned.at_most(CONFIDENCE)
                found[name] = Tried(name, share, at_most, changed, median(times[name]))
        return choose(points, built, times, *others)

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(module, "choose_point", judge):
        path = Path(folder) / f"float{network.suffix}"
        network.write(path)
        try:
            edgekit.deploy(
                path,
                calibration=samples,
                output=Path(folder) / "bundle",
                max_drop=_ASKED,
                **{"format": "native", **network.arguments},
            )
        except PromiseError as error:
            console.print(str(error))
    return list(found.values())


def count(searches: Sequence[Sequence[Tried]]) -> dict[float, Count]:
    """Returns what became of each bound.

    >>> plans = [Tried("a", 0.0, 0.0, 0.0, 3.0), Tried("b", 0.01, 0.02, 0.03, 1.0)]
    >>> counts = count([plans])
    >>> counts[0.02], counts[0.015]
    (Count(made=1, broken=1, naively=1), Count(made=1, broken=0, naively=1))
    """
    counts = {bound: Count() for bound in BOUNDS}
    for bound, own in counts.items():
        for plans in searches:
            kept = [plan for plan in plans if plan.at_most <= bound]
            if kept:
                own.made += 1
                own.broken += min(kept, key=lambda plan: plan.milliseconds).found > bound
            near = [plan for plan in plans if plan.share <= bound]
            if near:
                own.naively += min(near, key=lambda plan: plan.milliseconds).found > bound
    return counts


def measure(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields what was found of each network and number of samples."""
    for network in choose_networks(arguments.networks, UNTIMED):
        if network.name not in DATA:
            console.print(f"{network.name}: it has no data here")
            continue
        pool, judges = DATA[network.name]()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"float{network.suffix}"
            network.write(path)
            wanted = answer(edgekit.load(path), judges)
        for total in arguments.samples:
            searches = []
            for draw in range(arguments.draws):
                console.print(f"{network.name}, {total} samples, draw {draw + 1}")
                places = np.random.default_rng(draw).choice(len(pool), total, replace=False)
                searches.append(search(network, [pool[at] for at in places], judges, wanted))
            yield {
                "network": network.name,
                "samples": total,
                "judges": len(judges),
                "searches": [[asdict(plan) for plan in plans] for plans in searches],
                "counts": {bound: asdict(own) for bound, own in count(searches).items()},
            }


def make_table(records: Sequence[dict[str, Any]]) -> Table:
    columns = ("network", "samples", "bound", "promises made", "broken", "naively")
    table = Table(*columns, title="a bound on the share of answers that are others, without labels")
    for record in records:
        for bound, own in record["counts"].items():
            figures = (own["made"], own["broken"], own["naively"])
            table.add_row(
                record["network"], str(record["samples"]), f"{bound:g}", *map(str, figures)
            )
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", help="parts of names; default: all networks")
    parser.add_argument("--samples", nargs="+", type=int, default=[48], help="to calibrate with")
    parser.add_argument("--draws", type=int, default=DRAWS, help="of samples, for each number")
    parser.add_argument("--json", type=Path, help="write everything that was measured to this file")
    arguments = parser.parse_args()
    records: list[dict[str, Any]] = []
    for record in measure(arguments):
        records.append(record)
        if arguments.json:
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            content = {"records": records, "measured_on": asdict(describe_machine())}
            arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    console.print(make_table(records))
    return 0 if records else 1


if __name__ == "__main__":
    sys.exit(main())
