"""Deploys EfficientNet-Lite0 to this machine and to Raspberry Pis, and prints what was measured while doing so.

Every figure comes from this run. Exits 1 where a bar is missed.

    python examples/demo.py --output build/demo --json build/demo.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from rich.console import Console

import edgekit
from edgekit import Deployment, _native
from edgekit.agreement import Proportion
from edgekit.bundles.bundle import read_bundle
from edgekit.bundles.golden import read_array
from edgekit.bundles.verify import verify
from edgekit.converters.compare import LayerComparison, compare_layers
from edgekit.converters.lower import lower
from edgekit.converters.write_plan import write_plan
from edgekit.deployed import FLOAT_FORM, NATIVE_FORM, ONNX_FORM
from edgekit.report import Latency, make_latency_table, make_table
from edgekit.session import load
from edgekit.targets.errors import ToolError
from edgekit.timing import describe_machine
from efficientnet_lite0 import build_model
from photos import PREPROCESSING, Photo, find_stamps, read_photos, read_stamps, write_calibration

BOARDS = ("rpi3", "rpi4", "rpi5")
THREADS = (1, 2)
MOST_PHOTOS_LOST = 1
COMPARED = 4
LEAST_AGREEMENT = 0.95
MOST_FIRST_ANSWER_MS = 10.0

Answers = list[npt.NDArray[np.float32]]
# A pipe has no width; what is written there should not be cut.
console = Console(width=None if sys.stdout.isatty() else 120)


@dataclass
class Bars:
    """What the demo must show, and whether it did."""

    results: dict[str, bool] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def check(self, name: str, met: bool) -> None:
        self.results[name] = met
        console.print(
            f"  [{'green]met   ' if met else 'bold red]MISSED'}[/] {name}", highlight=False
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("build/demo"))
    parser.add_argument("--json", type=Path, help="write everything that was measured to this file")
    parser.add_argument("--seconds", type=float, default=6.0, help="of timing, for each threads")
    arguments = parser.parse_args()
    folder: Path = arguments.output
    bars = Bars()

    step("building EfficientNet-Lite0 as ONNX, from the published weights, without PyTorch")
    model = folder / "efficientnet_lite0.onnx"
    build_model(model)
    pictures = write_calibration(folder / "calibration")
    photos = [*read_photos(), *read_stamps()]
    if find_stamps() is None:
        bars.left_out.append("the 69 labelled stamps and stamps as calibration: not to be had here")

    step(f"deploying to this machine, calibrated on {pictures} pictures that are in no test")
    host = deploy(model, "host", folder, ("native", "onnx"), "auto")
    console.print(replace(host.report, layers=[], latencies=[]))
    assert host.onnx is not None
    assert host.plan is not None
    forms = {FLOAT_FORM: model, ONNX_FORM: host.onnx, NATIVE_FORM: host.plan}

    step(f"looking at {len(photos)} labelled pictures with each form")
    images = [PREPROCESSING.apply(photo.image) for photo in photos]
    answers = {form: answer(path, images) for form, path in forms.items()}
    accuracy = {form: score(given, answers[FLOAT_FORM], photos) for form, given in answers.items()}

    step("comparing native and ONNX Runtime on the int8 file, each layer from the same input codes")
    quantized = host.quantized
    assert quantized is not None
    layers = compare(host, quantized, images[:COMPARED], folder)

    step("comparing each layer's digest on every instruction set")
    digests = run_instruction_sets(host, quantized, folder) | run_boards(host, folder, bars)

    step("timing, in turns")
    first = {form: time_first_answer(path, images[0]) for form, path in forms.items()}
    latencies = host.benchmark(THREADS, seconds=arguments.seconds)

    print_table(forms, accuracy, first, latencies)
    print_layers(layers)
    print_digests(digests)
    check(bars, accuracy, layers, digests, first, latencies)
    for text in bars.left_out:
        console.print(f"  [bold yellow]LEFT OUT[/] {text}", highlight=False)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        facts = {
            "machine": describe_machine().to_dict(),
            "report": host.report.to_dict(),
            "bytes": {form: path.stat().st_size for form, path in forms.items()},
            "accuracy": {form: scores.to_dict() for form, scores in accuracy.items()},
            "first_answer_ms": first,
            "latencies": [latency.to_dict() for latency in latencies],
            "layers": [asdict(layer) for layer in layers],
            "digests": digests,
            "bars": bars.results,
            "left_out": bars.left_out,
        }
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n")
    return 0 if all(bars.results.values()) else 1


def step(text: str) -> None:
    console.print(f"\n[bold]{text}[/]", highlight=False)


def deploy(
    model: Path, target: str, folder: Path, formats: tuple[str, ...], ranges: str
) -> Deployment:
    """Deploys with one calibration for all targets: the first writes the checkpoint, the others read it."""
    return edgekit.deploy(
        model,
        target=target,
        calibration=folder / "calibration",
        preprocessing=PREPROCESSING,
        checkpoint=folder / "calibration.npz",
        ranges=ranges,
        format=formats,
        output=folder / target,
    )


def answer(path: Path, images: Answers) -> Answers:
    session = load(path, threads=THREADS[-1])
    return [next(iter(session.run(image).values()))[0] for image in images]


@dataclass(frozen=True)
class Scores:
    """Right answers on photographs and stamps, and agreement with the float model on all of them."""

    photos: Proportion
    stamps: Proportion | None
    agreement: Proportion

    def to_dict(self) -> dict[str, Any]:
        return {
            "photos": self.photos.to_dict(),
            "stamps": self.stamps and self.stamps.to_dict(),
            "agreement": self.agreement.to_dict(),
        }


def score(given: Answers, float_answers: Answers, photos: list[Photo]) -> Scores:
    def count(source: str) -> Proportion | None:
        right = [
            int(logits.argmax()) in photo.classes
            for logits, photo in zip(given, photos, strict=True)
            if photo.source == source
        ]
        return Proportion(sum(right), len(right)) if right else None

    same = [int(a.argmax()) == int(b.argmax()) for a, b in zip(given, float_answers, strict=True)]
    labelled = count("photos")
    assert labelled is not None
    return Scores(labelled, count("stamps"), Proportion(sum(same), len(same)))


def compare(
    host: Deployment, quantized: ir.Model, images: Answers, folder: Path
) -> list[LayerComparison]:
    """Compares every layer over all images; residual sums are not fused, so that each layer is seen."""
    assert host.onnx is not None
    program = lower(quantized, fuse=False)
    path = folder / "unfused.plan"
    write_plan(
        program,
        path,
        isa=_native.best_isa(),
        target="host",
        source_digest=host.report.source_digest,
    )
    session = _native.Session(_native.Plan.open(path))
    totals: dict[str, LayerComparison] = {}
    for image in images:
        inputs = {session.plan.inputs[0].name: image}
        recorded = inputs | {tensor: codes for _, tensor, codes in session.trace(inputs)}
        for layer in compare_layers(host.onnx, program, recorded):
            so_far = totals.get(layer.name)
            totals[layer.name] = layer if so_far is None else add(so_far, layer)
    return list(totals.values())


def add(a: LayerComparison, b: LayerComparison) -> LayerComparison:
    return replace(
        a,
        elements=a.elements + b.elements,
        differing=a.differing + b.differing,
        largest=max(a.largest, b.largest),
    )


def run_instruction_sets(
    host: Deployment, quantized: ir.Model, folder: Path
) -> dict[str, dict[str, int]]:
    """Runs the network with each instruction set of this CPU; returns layers and equal layers by its name."""
    bundle = read_bundle(host.path)
    inputs = {name: read_array(file) for name, file in bundle.inputs.items()}
    program = lower(quantized)
    results = {}
    for info in _native.isas():
        if not (info.built and info.supported):
            continue
        path = folder / f"{info.name}.plan"
        write_plan(
            program, path, isa=info.name, target="host", source_digest=host.report.source_digest
        )
        digests = _native.Session(_native.Plan.open(path)).digests(inputs)
        equal = [
            digest == golden.sha256
            for (_, _, digest), golden in zip(digests, bundle.digests, strict=True)
        ]
        results[info.name] = {"layers": len(equal), "equal": sum(equal)}
    return results


def run_boards(host: Deployment, folder: Path, bars: Bars) -> dict[str, dict[str, int]]:
    """Deploys to each board and runs the bundle on its emulated CPU against this machine's digests."""
    golden = [digest.sha256 for digest in read_bundle(host.path).digests]
    results = {}
    for board in BOARDS:
        try:
            deployed = deploy(host.source.path, board, folder, ("native",), host.report.ranges)
            verification = verify(deployed.path)
        except ToolError as error:
            bars.left_out.append(f"{board}: {error}")
            continue
        equal = [
            layer.actual == digest
            for layer, digest in zip(verification.layers, golden, strict=True)
        ]
        name = f"{deployed.report.isa}, {verification.machine} ({deployed.target.title})"
        results[name] = {"layers": len(equal), "equal": sum(equal)}
    return results


def time_first_answer(path: Path, image: npt.NDArray[np.float32], rounds: int = 7) -> float:
    """Returns the median time from opening a file to its first answer, in milliseconds, one thread."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        load(path).run(image)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def print_table(
    forms: dict[str, Path],
    accuracy: dict[str, Scores],
    first: dict[str, float],
    latencies: list[Latency],
) -> None:
    table = make_table(
        "\nEfficientNet-Lite0, 224 x 224, batch 1",
        *("form", "size", "photos", "stamps", "same answer as float", "load and first answer"),
    )
    for form, path in forms.items():
        scores = accuracy[form]
        table.add_row(
            form,
            f"{path.stat().st_size / 1e6:.2f} MB",
            f"{scores.photos.count}/{scores.photos.total}",
            f"{scores.stamps.count}/{scores.stamps.total}" if scores.stamps else "-",
            f"{scores.agreement.count}/{scores.agreement.total}",
            f"{first[form]:.1f} ms",
        )
    console.print(table)
    console.print(make_latency_table(latencies, 1))
    console.print(f"measured on {describe_machine()}", highlight=False)


def print_layers(layers: list[LayerComparison]) -> None:
    table = make_table(
        f"\nnative against ONNX Runtime, {len(layers)} layers, each from the same input codes",
        *("operators", "layers", "codes", "differing", "largest difference", "promised"),
    )
    for kind in dict.fromkeys(layer.operators for layer in layers):
        rows = [layer for layer in layers if layer.operators == kind]
        table.add_row(
            kind,
            str(len(rows)),
            f"{sum(row.elements for row in rows):,}",
            f"{sum(row.differing for row in rows):,}",
            str(max(row.largest for row in rows)),
            "equal" if rows[0].must_be_equal else "at most 1",
        )
    console.print(table)


def print_digests(digests: dict[str, dict[str, int]]) -> None:
    table = make_table("\ndigests of each layer's output", "where", "equal layers")
    for name, counts in digests.items():
        table.add_row(name, f"{counts['equal']} of {counts['layers']}")
    console.print(table)


def check(
    bars: Bars,
    accuracy: dict[str, Scores],
    layers: list[LayerComparison],
    digests: dict[str, dict[str, int]],
    first: dict[str, float],
    latencies: list[Latency],
) -> None:
    console.print("\nbars", highlight=False)
    for form in (ONNX_FORM, NATIVE_FORM):
        scores = accuracy[form]
        lost = accuracy[FLOAT_FORM].photos.count - scores.photos.count
        bars.check(
            f"{form}: photos lost: {lost}, at most {MOST_PHOTOS_LOST}", lost <= MOST_PHOTOS_LOST
        )
        bars.check(
            f"{form}: same answer as float {scores.agreement}, at least {LEAST_AGREEMENT:.0%}",
            scores.agreement.share >= LEAST_AGREEMENT,
        )
    broken = [layer.name for layer in layers if not layer.is_as_promised]
    bars.check(
        f"layers that differ from ONNX Runtime by more than promised: {', '.join(broken) or 'none'}",
        bool(layers) and not broken,
    )
    for name, counts in digests.items():
        bars.check(f"digests on {name}: all equal", counts["equal"] == counts["layers"])
    for threads in THREADS:
        times = {
            latency.form: latency.timing.median_ms
            for latency in latencies
            if latency.timing.threads == threads
        }
        bars.check(
            f"native is faster than float in ONNX Runtime with {threads} {'thread' if threads == 1 else 'threads'}: "
            f"{times[NATIVE_FORM]:.2f} ms against {times[FLOAT_FORM]:.2f} ms",
            times[NATIVE_FORM] < times[FLOAT_FORM],
        )
    bars.check(
        f"loading and the first answer take {first[NATIVE_FORM]:.1f} ms, under {MOST_FIRST_ANSWER_MS:.0f} ms",
        first[NATIVE_FORM] < MOST_FIRST_ANSWER_MS,
    )


if __name__ == "__main__":
    sys.exit(main())
