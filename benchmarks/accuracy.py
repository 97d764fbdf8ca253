"""Measures how well the contest's networks do their work, in float and in each form that `deploy` writes.

The float model in ONNX Runtime and each form take the same pictures, pages and sounds, none of which they were
calibrated with; every figure comes with the number of samples that it rests on and a 95 % interval. docs/benchmarks.md
says what the figures are.

    make accuracy NETWORKS="lite0 det" JSON=build/accuracy.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import edgekit
from contest import choose
from descriptions import measure_descriptions
from edgekit.session import Session
from edgekit.targets.errors import EdgekitError
from edgekit.timing import describe_machine
from efficientnet_lite0 import LITE0, LITE1
from filetypes import measure_files
from hearing import measure_voice, measure_wake_word
from intervals import Figure
from networks import Network
from reading import measure_detection, measure_recognition
from seeing import measure_clothes, measure_photographs

# What measures a network; takes a session, and the most samples to use or None.
Measure = Callable[[Session, int | None], list[Figure]]

MEASURES: dict[str, Measure] = {
    "EfficientNet-Lite0": partial(measure_photographs, variant=LITE0),
    "EfficientNet-Lite1": partial(measure_photographs, variant=LITE1),
    "DS-CNN": measure_clothes,
    "PP-OCRv4 detection": measure_detection,
    "PP-OCRv4 recognition": measure_recognition,
    "silero-vad": measure_voice,
    "openWakeWord embedding": measure_wake_word,
    "MiniLM whole": measure_descriptions,
    "magika": measure_files,
}
FLOAT = "float"
FORMS = ("native", "onnx", "tflite")

console = Console(width=None if sys.stdout.isatty() else 170, highlight=False)


def measure(network: Network, arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the figures of a network by form, or why a form has none."""
    folder = arguments.output / network.name.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "source.onnx"
    network.write(model)
    samples = network.read_samples(folder)
    look = MEASURES[network.name]
    forms: dict[str, Any] = {FLOAT: {"figures": _measure(look, edgekit.load(model), arguments)}}
    for form in arguments.forms:
        console.print(f"{network.name}: {form}")
        try:
            deployment = edgekit.deploy(
                model,
                target=arguments.target,
                calibration=samples,
                format=form,
                output=folder / form,
            )
            figures = _measure(look, deployment.load(), arguments)
        except EdgekitError as error:
            forms[form] = {"reason": str(error)}
            continue
        forms[form] = {"figures": figures, "snr_db": deployment.report.snr_db}
    return {
        "network": network.name,
        "calibration": f"{len(samples)} samples: {network.samples}",
        "forms": forms,
    }


def _measure(look: Measure, session: Session, arguments: argparse.Namespace) -> list[Figure]:
    return look(session, arguments.samples)


def make_table(records: list[dict[str, Any]]) -> Table:
    """Returns a row for each measure of each network, a column for each form."""
    forms = list(dict.fromkeys(form for record in records for form in record["forms"]))
    title = "accuracy with its 95 % interval; a form outside of float's interval is bold"
    table = Table("network", "measure", "samples", *forms, title=title)
    for record in records:
        whole = record["forms"][FLOAT]["figures"]
        for index, figure in enumerate(whole):
            cells = [_cell(record["forms"].get(form), index, figure) for form in forms]
            table.add_row(record["network"], figure.name, f"{figure.count} {figure.unit}", *cells)
    return table


def _cell(result: dict[str, Any] | None, index: int, wanted: Figure) -> str:
    if result is None or "figures" not in result:
        return "-"
    figure: Figure = result["figures"][index]
    worse = figure.value < wanted.low if figure.higher_is_better else figure.value > wanted.high
    return f"[bold red]{figure}[/]" if worse else str(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", help="parts of names; default: all networks")
    parser.add_argument("--output", type=Path, default=Path("build/accuracy"))
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--target", default="host", help="the profile that forms are written for")
    parser.add_argument("--samples", type=int, help="use at most so many, to try it out")
    parser.add_argument("--json", type=Path, help="write everything that was measured to this file")
    arguments = parser.parse_args()

    records, left_out = [], []
    for network in choose(arguments.networks):
        if network.name not in MEASURES:
            left_out.append(f"{network.name}: it has no measure here")
            continue
        try:
            records.append(measure(network, arguments))
        except FileNotFoundError as error:
            left_out.append(f"{network.name}: {error}")
    for record in records:
        left_out += [
            f"{record['network']}, {form}: {result['reason']}"
            for form, result in record["forms"].items()
            if "reason" in result
        ]
    console.print(make_table(records))
    for text in left_out:
        console.print(f"[bold yellow]LEFT OUT[/] {text}", markup=True)
    machine = describe_machine()
    console.print(f"{machine.cpu}, {machine.cores} cores, {machine.system}")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"records": records, "left_out": left_out, "measured_on": machine}
        text = json.dumps(content, indent=2, default=lambda value: asdict(value))
        arguments.json.write_text(text + "\n", encoding="utf-8")
    return 0 if records else 1


if __name__ == "__main__":
    sys.exit(main())
