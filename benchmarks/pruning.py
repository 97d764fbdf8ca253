"""Measures what pruning costs in answers and gains in time, by what `deploy` makes of the pruned networks.

Each way of pruning gives a float network; `deploy` takes it to int8 as it does the whole one. All take the same
samples, none of which a network learned from, and are timed in turns. docs/pruning.md says what the figures are.

    PYTHONPATH=examples python benchmarks/pruning.py channels DS-CNN
    PYTHONPATH=examples python benchmarks/pruning.py sparsity CNN --share 0.25 --ways unstr --distill 10000 --only
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import onnx_ir as ir
from rich.console import Console
from rich.table import Table

import edgekit
from accuracy import MEASURES
from comparing import ComparedSession
from contest import choose
from edgekit.benchmark import make_plan_inputs
from edgekit.converters.passes import simplify
from edgekit.converters.prune.channels import prune_channels
from edgekit.converters.prune.pattern import KeepOfGroup, Pattern, parse_pattern
from edgekit.converters.prune.sparsity import Sparsity, Zeros, sparsify
from edgekit.converters.prune.sparsity.layers import find_matrices
from edgekit.converters.read_onnx import bind_batch, read_onnx
from edgekit.data import Sample
from edgekit.session import NativeSession, Session
from edgekit.targets.errors import EdgekitError
from edgekit.timing import describe_machine
from find_data import find_data, read_idx
from intervals import Figure, Loss, measure_loss
from networks import SAMPLES, UNTIMED, Network, normalize_clothes

WHOLE = "whole, int8"
CLOTHES = ("DS-CNN", "CNN")
# Learning rates of distillation; what least squares repaired bears less.
RATES = {"channels": 2e-3, "sparsity": 5e-3}

console = Console(width=None if sys.stdout.isatty() else 170, highlight=False)


@dataclass(frozen=True)
class Subject:
    """A network to prune.

    Attributes:
        graph: Simplified, float.
        model: The file that it was read from.
        learning: Samples to prune with, without labels.
        teaching: Samples to distill with, without labels.
        calibration: Samples that `deploy` gets.
        share: Of the multiplications, or of the weights, that stay.
        all_layers: Whether fully connected layers are pruned inside too.
    """

    graph: ir.Model
    model: Path
    learning: list[Sample]
    teaching: list[Sample]
    calibration: list[Sample]
    share: float
    all_layers: bool


@dataclass(frozen=True)
class Pruning:
    """What was made of a network.

    Attributes:
        model: A file to deploy.
        options: What `deploy` is told besides.
        about: What is worth telling.
    """

    model: ir.Model | Path
    options: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""


# Makes a pruned network.
Way = Callable[[Subject], Pruning]


def cut_channels(subject: Subject, **options: Any) -> Pruning:
    """Cuts channels down to a share of the multiplications."""
    done = prune_channels(subject.graph, subject.learning, budget=subject.share, **options)
    widths = [layer.width_left for layer in done.report.layers]
    about = f"{done.report.macs_share:.3f} of MACs, {done.report.bytes_share:.3f} of weights; widths {widths}"
    return Pruning(done.graph, about=about)


def make_zeros(subject: Subject, pattern: Pattern, **options: Any) -> Pruning:
    """Makes weights inside layers 0 until a share of them is left, whether kernels use that or not."""
    share = 1 - (pattern.density if isinstance(pattern, KeepOfGroup) else subject.share)
    dense = [node.name for node in subject.graph.graph if node.op_type != "Conv"]
    keep = () if subject.all_layers else [name for name in dense if name]
    asked = Sparsity(Zeros(pattern, share), dense=keep, **options)
    done = sparsify(subject.graph, subject.learning, asked)
    pruned = [layer for layer in done.report.layers if layer.pattern]
    densities = ", ".join(f"{layer.density:.2f}" for layer in pruned)
    about = f"{done.report.zeros:.3f} of the weights of {len(pruned)} layers are 0; densities {densities}"
    return Pruning(done.graph, about=about)


def distill(
    subject: Subject, way: Way, output: Path, settings: Mapping[str, Any], pattern: str = ""
) -> Pruning:
    """Lets the float network teach a pruned one, int8; `deploy` keeps the codes.

    Zeros inside layers are made while it is trained; channels, which are gone, before, in a way.

    Raises:
        ToolError: torch is missing.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    about = ""
    options: dict[str, Any]
    if pattern:
        parsed = parse_pattern(pattern)
        share = 1 - (parsed.density if isinstance(parsed, KeepOfGroup) else subject.share)
        options = {"prune": {pattern: share}, "layers": list_layers(subject)}
    else:
        pruned = way(subject)
        options, about = {"student": pruned.model}, f"{pruned.about}; "
    cpu = time.process_time()
    found = edgekit.distill(
        subject.model,
        calibration=subject.teaching,
        output=output,
        checkpoint=output.with_suffix(".ckpt"),
        progress=tell_steps,
        **options,
        **settings,
    )
    seconds = time.process_time() - cpu
    console.print([(step, round(loss, 5)) for step, loss in found.training.history])
    about += f"{found.training.steps} steps, {found.training.trained} samples, {seconds:.0f} s of CPU time"
    return Pruning(found.path, about=about)


def list_layers(subject: Subject) -> list[str]:
    """Returns the layers that get zeros inside: all but depthwise ones and the first."""
    matrices, _ = find_matrices(subject.graph)
    convolutions = {node.name for node in subject.graph.graph if node.op_type == "Conv"}
    return [matrix.name for matrix in matrices if subject.all_layers or matrix.name in convolutions]


def tell_steps(stage: str, done: int, total: int) -> None:
    """Prints how far it is, ten times."""
    if stage == "distilling" and done and done % max(total // 10, 1) == 0:
        console.print(f"{stage}: {done} of {total}")


WAYS: dict[str, dict[str, Way]] = {
    "sparsity": {
        text: partial(make_zeros, pattern=parse_pattern(text))
        for text in ("unstructured", "4x32", "4x16", "4x4", "4x1", "1x16", "1:4", "2:4")
    }
    | {
        f"{text} reordered": partial(make_zeros, pattern=parse_pattern(text), reorder=True)
        for text in ("4x32", "4x16")
    },
    "channels": {
        "magnitude": partial(cut_channels, importance="magnitude", repairs=False),
        "magnitude, repaired": partial(cut_channels, importance="magnitude"),
        "error, repaired": cut_channels,
    },
}


@dataclass(frozen=True)
class Result:
    """What a network does.

    Attributes:
        figures: Of its work.
        losses: Against the float network, on the same samples.
        agreement: Share of answers that are the float network's.
        snr_db: Of the answers.
        seconds: That pruning took.
        about: As in `Pruning`.
        session: Runs it.
    """

    figures: list[Figure]
    losses: list[Loss | None]
    agreement: Figure | None
    snr_db: float
    seconds: float
    about: str
    session: Session


def read_learning(network: Network, folder: Path, count: int) -> list[Sample]:
    """Returns samples to learn from: of clothes, training images behind those for calibration, else the latter."""
    if network.name not in CLOTHES:
        return network.read_samples(folder)[:count]
    data = find_data("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist")
    pixels = read_idx(data / "train-images-idx3-ubyte.gz")
    return [{"image": image} for image in normalize_clothes(pixels[4 * SAMPLES :][:count])]


def measure_ways(
    network: Network, ways: Mapping[str, Way], arguments: argparse.Namespace
) -> dict[str, Result | str]:
    """Returns what the float network, the whole int8 one and each pruned one do, or why one does nothing."""
    folder = arguments.output.resolve() / network.name.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "source.onnx"
    network.write(source)
    graph = read_onnx(source)
    calibration = network.read_samples(folder)
    shapes = {len(next(iter(sample.values()))) for sample in calibration}
    bind_batch(graph, shapes.pop() if len(shapes) == 1 else 1)
    simplify(graph)
    learning = read_learning(network, folder, arguments.learning)
    teaching = read_learning(network, folder, arguments.teaching) if arguments.distill else []
    subject = Subject(
        *(graph, source, learning, teaching, calibration),
        *(arguments.share, not arguments.convolutions),
    )
    how = MEASURES[network.name]
    whole = how.look(edgekit.load(source), arguments.samples)
    results: dict[str, Result | str] = {
        "float": Result(whole, [], None, math.inf, 0.0, "", edgekit.load(source))
    }
    if arguments.distill:
        settings = {
            "steps": arguments.distill,
            "learning_rate": arguments.rate or RATES[arguments.kind],
            "patience": 0,
        }
        taught = {
            f"{name}, distilled": partial(
                distill,
                way=way,
                output=folder / f"{name}.distilled.onnx",
                settings=settings,
                pattern=name if arguments.kind == "sparsity" else "",
            )
            for name, way in ways.items()
            if "reordered" not in name
        }
        if arguments.only:
            ways = {}
        ways = {**ways, **taught}
    for name, way in {WHOLE: lambda subject: Pruning(subject.model), **ways}.items():
        console.print(f"{network.name}: {name}")
        start = time.perf_counter()
        try:
            pruned = way(subject)
            seconds = time.perf_counter() - start
            session = deploy(network, pruned, calibration, folder / name.replace(" ", "_"))
            compared = ComparedSession(session, edgekit.load(source), how.read)
            figures = how.look(compared, arguments.samples)
        except EdgekitError as error:
            results[name] = str(error)
            continue
        losses = [measure_loss(a, b) for a, b in zip(whole, figures, strict=True)]
        results[name] = Result(
            figures, losses, compared.agreement, compared.snr_db, seconds, pruned.about, session
        )
    return results


def deploy(network: Network, pruned: Pruning, calibration: list[Sample], output: Path) -> Session:
    """Returns a native int8 session of a network."""
    output.parent.mkdir(parents=True, exist_ok=True)
    model = pruned.model
    if isinstance(model, ir.Model):
        path = output.with_suffix(".onnx")
        ir.save(model, path)
        model = path
    options = {"precision": "int8", **network.arguments, **pruned.options}
    return edgekit.deploy(
        model, format="native", calibration=calibration, output=output, **options
    ).load()


def time_sessions(results: Mapping[str, Result | str], seconds: float) -> dict[str, float]:
    """Returns median microseconds of plans, in turns, on one thread, without what Python adds."""
    sessions = {
        name: result.session
        for name, result in results.items()
        if isinstance(result, Result) and isinstance(result.session, NativeSession)
    }
    inputs = {name: make_plan_inputs(session) for name, session in sessions.items()}
    times: dict[str, list[float]] = {name: [] for name in sessions}
    end = time.perf_counter() + seconds
    while sessions and (time.perf_counter() < end or len(times[WHOLE]) < 5):
        for name, session in sessions.items():
            profile = session.native.profile(inputs[name], repeats=20)
            times[name].append(1e6 * sum(taken for _, taken in profile))
    return {name: statistics.median(values) for name, values in times.items()}


def show(name: str, results: Mapping[str, Result | str], times: Mapping[str, float]) -> None:
    table = Table(
        *("way", "measure", "value", "points lost to float", "as float's", "dB"),
        *("us", "times as fast", "s to prune", "what"),
        title=name,
    )
    for way, result in results.items():
        if isinstance(result, str):
            console.print(f"[bold yellow]LEFT OUT[/] {way}: {result}", markup=True)
            continue
        for index, figure in enumerate(result.figures):
            loss = result.losses[index] if result.losses else None
            first = index == 0
            spent = times.get(way)
            table.add_row(
                way if first else "",
                f"{figure.name}, {figure.count} {figure.unit}",
                str(figure),
                str(loss) if loss else "",
                f"{result.agreement.value:.4f}" if first and result.agreement else "",
                f"{result.snr_db:.1f}" if first and math.isfinite(result.snr_db) else "",
                f"{spent:.1f}" if first and spent else "",
                f"{times[WHOLE] / spent:.2f}" if first and spent and WHOLE in times else "",
                f"{result.seconds:.1f}" if first and result.about else "",
                result.about if first else "",
            )
    console.print(table)


def to_json(results: Mapping[str, Result | str], times: Mapping[str, float]) -> dict[str, Any]:
    return {
        way: result
        if isinstance(result, str)
        else {
            "figures": [figure.to_dict() for figure in result.figures],
            "losses": [loss and asdict(loss) for loss in result.losses],
            "agreement": result.agreement and result.agreement.to_dict(),
            "snr_db": result.snr_db,
            "seconds": result.seconds,
            "about": result.about,
            "microseconds": times.get(way),
        }
        for way, result in results.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=list(WAYS))
    parser.add_argument("networks", nargs="+", help="parts of names")
    parser.add_argument("--share", type=float, default=0.5, help="of what there is, that stays")
    parser.add_argument(
        "--convolutions", action="store_true", help="prune inside convolutions alone"
    )
    parser.add_argument("--learning", type=int, default=2000, help="samples to prune with, at most")
    parser.add_argument(
        "--distill", type=int, metavar="STEPS", help="each way distilled too, so long (extra torch)"
    )
    parser.add_argument(
        "--teaching", type=int, default=59_000, help="samples to distill with, at most"
    )
    parser.add_argument("--rate", type=float, help="learning rate of distillation")
    parser.add_argument(
        "--only", action="store_true", help="what is distilled, not what is only pruned"
    )
    parser.add_argument("--ways", nargs="*", help="parts of the names of ways; default: all")
    parser.add_argument("--samples", type=int, help="measure with at most so many")
    parser.add_argument("--seconds", type=float, default=5.0, help="to time for; 0: no timing")
    parser.add_argument("--output", type=Path, default=Path("build/pruning"))
    parser.add_argument("--json", type=Path, help="write everything that was measured to this file")
    arguments = parser.parse_args()
    ways = {
        name: way
        for name, way in WAYS[arguments.kind].items()
        if not arguments.ways or any(word in name for word in arguments.ways)
    }
    records = {}
    chosen = choose(arguments.networks, UNTIMED)
    exact = [network for network in chosen if network.name in arguments.networks]
    for network in exact or chosen:
        if network.name not in MEASURES:
            console.print(f"[bold yellow]LEFT OUT[/] {network.name}: no measure", markup=True)
            continue
        results = measure_ways(network, ways, arguments)
        times = time_sessions(results, arguments.seconds) if arguments.seconds else {}
        show(network.name, results, times)
        records[network.name] = to_json(results, times)
    machine = describe_machine()
    console.print(f"{machine.cpu}, {machine.cores} cores, {machine.system}")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"records": records, "measured_on": asdict(machine)}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0 if records else 1


if __name__ == "__main__":
    sys.exit(main())
