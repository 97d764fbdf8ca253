"""Measures how well the contest's networks do their work: float, in each form that `deploy` writes, and by peers.

The float model in ONNX Runtime, each form and each peer's file take the same pictures, pages and sounds, none of which
they were calibrated with; every figure comes with the number of samples that it rests on and a 95 % interval, and with
what it lost against float on the same samples. docs/benchmarks.md says what the figures are.

    make accuracy NETWORKS="lite0 det" PEERS=1 JSON=build/accuracy.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console

import edgekit
from accuracy_table import make_table, write_markdown
from comparing import ComparedSession, ReadAnswers, read_largest
from contest import choose
from descriptions import measure_descriptions
from edgekit.peers.fix_shapes import fix_shapes
from edgekit.peers.samples_file import write_samples
from edgekit.session import Session
from edgekit.targets.errors import EdgekitError
from edgekit.timing import describe_machine
from efficientnet_lite0 import LITE0, LITE1
from filetypes import measure_files
from hearing import measure_voice, measure_wake_word
from intervals import Figure, measure_loss
from labelled import Labels, find_measure
from networks import UNTIMED, Network
from quantizers.list import QUANTIZERS
from quantizers.quantizer import QuantizedSession, Quantizer
from quantizers.run import run_quantizer
from reading import measure_detection, measure_recognition
from remembered import Measured, RememberedSession, make_key, recall
from seeing import measure_clothes, measure_photographs

# What measures a network; takes a session, and the most samples to use or None.
Look = Callable[[Session, int | None], list[Figure]]


@dataclass(frozen=True)
class Measure:
    """How a network's work is measured.

    Attributes:
        look: Returns the figures.
        read: Reads answers off the outputs, of which the share is counted that are float's; None where they are none.
    """

    look: Look
    read: ReadAnswers | None = None


MEASURES: dict[str, Measure] = {
    "EfficientNet-Lite0": Measure(partial(measure_photographs, variant=LITE0), read_largest),
    "EfficientNet-Lite1": Measure(partial(measure_photographs, variant=LITE1), read_largest),
    "DS-CNN": Measure(measure_clothes, read_largest),
    "CNN": Measure(measure_clothes, read_largest),
    "PP-OCRv4 detection": Measure(measure_detection),
    "PP-OCRv4 recognition": Measure(measure_recognition, read_largest),
    "silero-vad": Measure(measure_voice),
    "openWakeWord embedding": Measure(measure_wake_word),
    "MiniLM whole": Measure(measure_descriptions),
    "magika": Measure(measure_files, read_largest),
}
FLOAT = "float"
# What `deploy` is told for each of ours.
OURS: dict[str, dict[str, Any]] = {
    "native": {"format": "native"},
    "onnx": {"format": "onnx"},
    "tflite": {"format": "tflite"},
    "int8": {"format": "native", "precision": "int8"},
}

console = Console(width=None if sys.stdout.isatty() else 190, highlight=False)


def measure(network: Network, arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns what was measured of a network by contestant, or why one has nothing."""
    folder = arguments.output.resolve() / network.name.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "source.onnx"
    network.write(model)
    samples = network.read_samples(folder)
    fixed, calibration = folder / "float.onnx", folder / "calibration.npz"
    signature = fix_shapes(model, fixed, samples[0])
    write_samples(calibration, samples)
    how = MEASURES[network.name]
    key = partial(make_key, how.look)
    reference = RememberedSession(
        edgekit.load(model), folder / f"{make_key(how.look, [model])}.npz"
    )
    words = (arguments.samples, how.read and how.read.__name__)
    whole = recall(
        folder / "float.json",
        key([model], *words),
        lambda: Measured(how.look(reference, arguments.samples)),
    ).figures
    contestants: dict[str, Any] = {FLOAT: {"figures": [figure.to_dict() for figure in whole]}}

    def look(session: Session) -> Measured:
        compared = ComparedSession(session, reference, how.read)
        figures = how.look(compared, arguments.samples)
        reference.save()
        return Measured(figures, compared.agreement, compared.snr_db)

    def deploy(name: str, tell: Callable[[], dict[str, Any]]) -> tuple[Session, dict[str, Any]]:
        options = tell()
        started = time.process_time()
        deployment = edgekit.deploy(
            model,
            **{"target": arguments.target, **network.arguments, **options},
            calibration=samples,
            output=folder / name.replace(" ", "_"),
        )
        report = deployment.report
        about = {"calibration_snr_db": report.snr_db, "ranges": report.ranges}
        took = {"cpu_seconds": time.process_time() - started}
        front = None if deployment.front is None else deployment.front.to_dict()
        told = {"notes": list(report.notes), "report": str(report), "front": front}
        return deployment.load(), {"how": "deploy", **about, **took, **told}

    def quantize(quantizer: Quantizer) -> tuple[Session, dict[str, Any]]:
        home = folder / quantizer.name.replace(" ", "_")
        made = run_quantizer(quantizer, fixed, signature, calibration, home)
        about = {**asdict(made), "file": made.file.name, "version": quantizer.get_version()}
        return QuantizedSession(quantizer, made.file, signature), about

    def list_contestants() -> Iterator[tuple[str, Callable[[], tuple[Session, dict[str, Any]]]]]:
        for name, options in arguments.ours.items():
            yield f"edgekit {name}", partial(deploy, name, partial(dict, options))
        for drop, labels in product(arguments.max_drop, arguments.labels):
            name = f"max_drop {drop:g}{labels}"
            yield f"edgekit {name}", partial(deploy, name, partial(promise, network, drop, labels))
        for quantizer in arguments.quantizers:
            yield quantizer.name, partial(quantize, quantizer)

    for name, prepare in list_contestants():
        console.print(f"{network.name}: {name}")
        try:
            session, about = prepare()
            # OpenVINO has its weights in a file of their own.
            files = sorted(session.path.parent.glob(f"{session.path.stem}.*"))
            measured = recall(
                folder / f"{name.replace(' ', '_')}.json",
                key([model, *files], name, *words),
                partial(look, session),
            )
        except EdgekitError as error:
            contestants[name] = {"reason": str(error)}
            continue
        pairs = zip(whole, measured.figures, strict=True)
        losses = [measure_loss(before, after) for before, after in pairs]
        contestants[name] = {
            **about,
            "figures": [figure.to_dict() for figure in measured.figures],
            "losses": [loss and asdict(loss) for loss in losses],
            "agreement": measured.agreement and measured.agreement.to_dict(),
            "snr_db": measured.snr_db,
        }
    return {
        "network": network.name,
        "calibration": f"{len(samples)} samples: {network.samples}",
        "contestants": contestants,
    }


def promise(network: Network, drop: float, labels: Labels) -> dict[str, Any]:
    """Returns what `deploy` is told where it has to lose no more, by labels that no figure is measured on.

    Raises:
        EdgekitError: The network has no such labels.
    """
    options: dict[str, Any] = {"format": "native", "max_drop": drop}
    if labels.count == 0:
        return options
    return {**options, "evaluate": find_measure(network.name, labels)}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", help="parts of names; default: all networks")
    parser.add_argument("--output", type=Path, default=Path("build/accuracy"))
    parser.add_argument("--forms", nargs="*", choices=list(OURS), default=list(OURS)[:3])
    parser.add_argument(
        "--deploy",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help='a deployment more, with what it is told: light={"format": "native", "ranges": "mse"}',
    )
    parser.add_argument(
        "--max-drop",
        nargs="*",
        type=float,
        default=[],
        metavar="DROP",
        help="native deployments that promise to lose no more: of answers, or by labels",
    )
    parser.add_argument(
        "--labels",
        nargs="*",
        type=Labels.read,
        default=[Labels()],
        metavar="[KIND:]COUNT",
        help="for --max-drop: how many labelled samples, others than those measured on, to choose by: a number or all, "
        "0 for none, the default; of kind scores, or figure for what is no mean, such as an area under a curve",
    )
    parser.add_argument(
        "--peers",
        nargs="*",
        metavar="WORD",
        help="other quantizers too: those whose names are or hold a word, all of them for none",
    )
    parser.add_argument("--target", default="host", help="the profile that forms are written for")
    parser.add_argument("--samples", type=int, help="use at most so many, to try it out")
    parser.add_argument("--json", type=Path, help="write everything that was measured to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    arguments = parser.parse_args()
    arguments.ours = {name: OURS[name] for name in arguments.forms}
    for text in arguments.deploy:
        name, _, options = text.partition("=")
        arguments.ours[name] = json.loads(options)
    words = None if arguments.peers is None else [word.lower() for word in arguments.peers]
    whole = {quantizer.name.lower() for quantizer in QUANTIZERS}
    arguments.quantizers = [
        quantizer
        for quantizer in (() if words is None else QUANTIZERS)
        if not words
        or any(
            word == quantizer.name.lower() if word in whole else word in quantizer.name.lower()
            for word in words
        )
    ]
    return arguments


def main() -> int:
    arguments = parse_arguments()
    records, left_out = [], []
    for network in choose(arguments.networks, UNTIMED):
        if network.name not in MEASURES:
            left_out.append(f"{network.name}: it has no measure here")
            continue
        try:
            records.append(measure(network, arguments))
        except FileNotFoundError as error:
            left_out.append(f"{network.name}: {error}")
            continue
        save(arguments, records, left_out)
    for record in records:
        left_out += [
            f"{record['network']}, {name}: {result['reason']}"
            for name, result in record["contestants"].items()
            if "reason" in result
        ]
    console.print(make_table(records))
    for text in left_out:
        console.print(f"[bold yellow]LEFT OUT[/] {text}", markup=True)
    machine = describe_machine()
    console.print(f"{machine.cpu}, {machine.cores} cores, {machine.system}")
    save(arguments, records, left_out)
    return 0 if records else 1


def save(arguments: argparse.Namespace, records: list[dict[str, Any]], left_out: list[str]) -> None:
    """Writes what is known so far, since a run may take an hour."""
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        machine = asdict(describe_machine())
        content = {"records": records, "left_out": left_out, "measured_on": machine}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if arguments.markdown:
        write_markdown(arguments.markdown, records)


if __name__ == "__main__":
    sys.exit(main())
