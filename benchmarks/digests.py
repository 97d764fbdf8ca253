"""Proves that networks compute the same bytes on each instruction set, with and without strips, on any threads.

Each network of the contest is lowered three ways, all int8, all float32 and mixed, and run on a sample of its own
data: on every instruction set of this CPU, and on emulated ARM CPUs by the runner that boards get. The SHA-256 of every
layer's output is compared with that of generic code on one thread. Exits 1 where one differs, or where nothing was
compared.

    make bench-digests NETWORKS="lite0 det"
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from rich.console import Console
from rich.table import Table

from contest import choose
from edgekit import _native
from edgekit.building.emulate import Machine
from edgekit.building.programs import build_programs
from edgekit.converters.calibrate import Calibration, calibrate
from edgekit.converters.choose_float import Costs, choose_float
from edgekit.converters.fix_shapes import fix_shapes, open_inputs
from edgekit.converters.lower import lower
from edgekit.converters.passes import simplify
from edgekit.converters.program import Program
from edgekit.converters.quantize import quantize
from edgekit.converters.read_onnx import read_onnx
from edgekit.converters.strips import choose_strips
from edgekit.converters.write_plan import write_plan
from edgekit.data import Sample
from edgekit.targets.errors import ModelError, ToolError
from edgekit.targets.profile import load_profile
from edgekit.targets.toolchain import find_program
from networks import Network

# Samples that ranges are learned from: how good they are does not matter here.
CALIBRATION = 8
RANGES = "minmax"
# A level 2 cache so small that the blocks of every network that has some run in strips.
CACHE_BYTES = 8 << 10
THREADS = (1, 2, 3)
# What runs on which emulated CPU, by the names of isa.inc and of qemu. Generic code too: it is another compiler's.
EMULATED = (
    ("generic", "cortex-a72"),
    ("arm_neon", "cortex-a53"),
    ("arm_neon", "cortex-a72"),
    ("arm_neondot", "cortex-a76"),
    ("arm_i8mm", "max"),
)
BOARD = "rpi3"
# Built by CMake's target of that name: AMX where this CPU lacks it.
AMX_RUNNER = Path("build/native/tests/native/edgekit_run_amx")

# (operator, tensor, SHA-256) in order of execution.
Digests = list[tuple[str, str, str]]

console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)


@dataclass(frozen=True)
class Place:
    """Where a network runs.

    Attributes:
        isa: The instruction set that its plan is made for.
        machine: The emulated machine, None for this one.
        runner: The program that runs plans on that machine.
        most_threads: What that program takes.
    """

    isa: str
    machine: Machine | None = None
    runner: Path | None = None
    most_threads: int = _native.MAX_THREADS

    @property
    def label(self) -> str:
        """The instruction set and, if it is emulated, the machine."""
        return self.isa if self.machine is None else f"{self.isa}, {self.machine.label}"

    def choose_threads(self, threads: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Returns with how many threads to run whole tensors, and strips: an emulated CPU, which is slow, once each."""
        if self.machine is None:
            return threads, threads
        fitting = [count for count in threads if count <= self.most_threads]
        return fitting[:1], fitting[:2][-1:]

    def run(self, plan: Path, samples: list[Path], threads: int) -> Digests:
        """Returns the digests of every layer, of one sample after another."""
        found: Digests = []
        session = None
        if self.machine is None:
            session = _native.Session(_native.Plan.open(plan), threads)
        for sample in samples:
            if session is not None:
                inputs = {path.stem: np.load(path) for path in sorted(sample.glob("*.npy"))}
                found += session.digests(inputs)
                continue
            assert self.machine is not None
            words = [f"{path.stem}={path}" for path in sorted(sample.glob("*.npy"))]
            options = [option for word in words for option in ("--input", word)]
            command = [str(self.runner), str(plan), *options]
            printed = self.machine.run([*command, "--threads", str(threads), "--digests", "--json"])
            rows = json.loads(printed)["digests"]
            found += [(row["op"], row["tensor"], row["sha256"]) for row in rows]
        return found


@dataclass
class Result:
    """What comparing one program on one machine showed.

    Attributes:
        compared: Digests that were compared.
        different: For each that differs: with what strips and threads, and where first.
    """

    compared: int = 0
    different: list[str] = field(default_factory=list)

    def add(self, how: str, golden: Digests, found: Digests) -> None:
        """Compares digests with those of the baseline."""
        names = [(op, tensor) for op, tensor, _ in golden]
        if names != [(op, tensor) for op, tensor, _ in found]:
            self.different.append(f"{how}: other layers than the baseline")
            return
        self.compared += len(found)
        wrong = [mine for mine, theirs in zip(found, golden, strict=True) if mine != theirs]
        if wrong:
            self.different.append(f"{how}: {len(wrong)} of {len(found)}, first {wrong[0][0]}")


def find_places(here: bool, runner: Path | None) -> tuple[list[Place], list[str]]:
    """Returns where networks can run, the baseline first, and a line for each place that is left out.

    Args:
        here: Whether to leave boards out.
        runner: The boards' program, None to have it built.
    """
    places, left_out = [], []
    known = {info.name: info for info in _native.isas()}
    for info in known.values():
        if info.built and info.supported:
            places.append(Place(info.name))
        elif info.name == "x86_amx" and AMX_RUNNER.exists():
            places.append(Place(info.name, Machine("emulated AMX", emulated=True), AMX_RUNNER, 1))
        elif info.built:
            left_out.append(f"{info.name}: this CPU lacks it")
    if here:
        return places, [*left_out, "emulated ARM CPUs, as asked"]
    emulator = find_program("qemu-aarch64-static", "qemu-aarch64")
    if emulator is None:
        return places, [*left_out, "ARM: qemu-aarch64 is not there"]
    try:
        runner = runner or build_programs(load_profile(BOARD)).runner
    except ToolError as error:
        return places, [*left_out, f"ARM: {error}"]
    for isa, cpu in EMULATED:
        if isa not in known:
            left_out.append(f"{isa} on {cpu}: edgekit has no such instruction set")
            continue
        machine = Machine(f"emulated {cpu}", emulated=True, prefix=(str(emulator), "-cpu", cpu))
        places.append(Place(isa, machine, runner))
    return places, left_out


def make_programs(
    network: Network, folder: Path, samples: list[Sample]
) -> Iterator[tuple[str, Program | str]]:
    """Yields the network lowered to each precision, or why it can't be."""
    model = folder / "source.onnx"
    graph = read_onnx(model)
    if names := [str(value.name) for value in open_inputs(graph)]:
        fix_shapes(graph, {name: (None, *samples[0][name].shape[1:]) for name in names})
    simplify(graph)
    learned = calibrate(graph, samples)
    nodes = {node.name or "" for node in graph.graph}
    for precision, keep in (
        ("int8", set()),
        ("mixed", set(mix(graph.graph))),
        ("float32", nodes),
    ):
        try:
            yield precision, make_program(graph, learned, keep)
        except ModelError as error:
            yield precision, str(error)


def make_program(graph: ir.Model, learned: Calibration, keep: set[str]) -> Program:
    reasons = dict.fromkeys(keep, "to be compared in float32")
    return lower(quantize(graph, learned, method=RANGES, keep_float=reasons), 1)


def mix(graph: ir.Graph) -> frozenset[str]:
    """Returns names of nodes to keep in float32: about half, by their names' digests, conversions at will."""
    names = [node.name or "" for node in graph]
    real = {name: float(hashlib.sha256(name.encode()).digest()[0] % 2) for name in names}
    return choose_float(
        graph, Costs({name: 1 - cost for name, cost in real.items()}, real, 0.0, 0.0)
    )


def compare(
    program: Program,
    places: list[Place],
    folder: Path,
    samples: list[Path],
    threads: tuple[int, ...],
) -> dict[str, Result]:
    """Runs a program everywhere and compares it with the first place, one thread, without strips."""
    golden: Digests = []
    results = {}
    for place in places:
        result = results[place.label] = Result()
        of_whole, of_strips = place.choose_threads(threads)
        for strips, cache, counts in (
            ("whole", None, of_whole),
            ("strips", CACHE_BYTES, of_strips),
        ):
            path = folder / f"{place.isa}-{strips}.plan"
            write_plan(
                program,
                path,
                isa=place.isa,
                target="host",
                source_digest="0" * 64,
                cache_bytes=cache,
            )
            for count in counts:
                found = place.run(path, samples, count)
                if golden:
                    result.add(f"{strips}, {count} threads", golden, found)
                golden = golden or found
            path.unlink()
    return results


def write_samples(samples: list[Sample], folder: Path) -> list[Path]:
    """Writes each sample's inputs as .npy files named after them; returns a folder a sample."""
    folders = []
    for index, sample in enumerate(samples):
        path = folder / f"sample-{index}"
        path.mkdir(parents=True, exist_ok=True)
        for name, value in sample.items():
            np.save(path / f"{name}.npy", value)
        folders.append(path)
    return folders


def add_batch(sample: Sample, inputs: Mapping[str, tuple[int, ...]]) -> Sample:
    """Returns a sample with the leading dimension that the plan's inputs have, where it lacks it."""
    return {
        name: value if value.ndim == len(inputs[name]) else value[None]
        for name, value in sample.items()
    }


def prove(
    network: Network, places: list[Place], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Compares one network everywhere; returns a record for each precision."""
    folder = arguments.output / network.name.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    network.write(folder / "source.onnx")
    samples = network.read_samples(folder)
    step = max(1, len(samples) // CALIBRATION)
    records = []
    for precision, program in make_programs(network, folder, samples[::step]):
        if isinstance(program, str):
            console.print(f"[bold yellow]LEFT OUT[/] {network.name}, {precision}: {program}")
            continue
        shapes = {name: program.tensors[name].shape for name in program.inputs}
        shown = [add_batch(sample, shapes) for sample in samples[: arguments.samples]]
        results = compare(
            program, places, folder, write_samples(shown, folder), tuple(arguments.threads)
        )
        record = {
            "network": network.name,
            "precision": precision,
            "layers": len(program.ops),
            "float_layers": sum(op.kind.startswith("Float") for op in program.ops),
            "chains_in_strips": len(choose_strips(program, CACHE_BYTES)),
            "places": {
                label: {"compared": result.compared, "different": result.different}
                for label, result in results.items()
            },
        }
        records.append(record)
        console.print(make_line(record))
    return records


def make_line(record: Mapping[str, Any]) -> str:
    """Returns one line for a record, with all that differs."""
    places = record["places"].items()
    wrong = [f"{label}: {what}" for label, result in places for what in result["different"]]
    compared = sum(result["compared"] for _, result in places)
    verdict = f"[bold red]DIFFERENT[/] {'; '.join(wrong)}" if wrong else "equal"
    return (
        f"{record['network']}, {record['precision']}: {record['layers']} layers, {record['chains_in_strips']} chains "
        f"in strips, {compared} digests in {len(places)} places: {verdict}"
    )


def make_table(records: list[dict[str, Any]], places: list[Place]) -> Table:
    """Returns a table: a row for each place, a column for each precision, summed over networks."""
    precisions = list(dict.fromkeys(record["precision"] for record in records))
    table = Table("where", *precisions, title="digests of layers, of all networks: compared")
    for place in places:
        cells = []
        for precision in precisions:
            found = [r["places"][place.label] for r in records if r["precision"] == precision]
            different = sum(len(result["different"]) for result in found)
            compared = f"{sum(result['compared'] for result in found)}"
            cells.append(f"[bold red]{compared} DIFFERENT[/]" if different else f"{compared} equal")
        table.add_row(place.label, *cells)
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", help="parts of names; default: all networks")
    parser.add_argument("--output", type=Path, default=Path("build/digests"))
    parser.add_argument("--samples", type=int, default=1, help="that each network is run on")
    parser.add_argument("--threads", type=int, nargs="+", default=THREADS)
    parser.add_argument("--here", action="store_true", help="leave boards out")
    parser.add_argument("--runner", type=Path, help="an edgekit-run for aarch64 not to build one")
    parser.add_argument("--json", type=Path, help="write what was compared to this file")
    arguments = parser.parse_args()

    places, left_out = find_places(arguments.here, arguments.runner)
    records = []
    for network in choose(arguments.networks):
        try:
            records += prove(network, places, arguments)
        except FileNotFoundError as error:
            left_out.append(f"{network.name}: {error}")
    console.print(make_table(records, places))
    for text in left_out:
        console.print(f"[bold yellow]LEFT OUT[/] {text}")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(
            json.dumps({"records": records, "left_out": left_out}, indent=2) + "\n",
            encoding="utf-8",
        )
    results = [result for record in records for result in record["places"].values()]
    return 0 if results and not any(result["different"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
