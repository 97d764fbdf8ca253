"""Deploys every network in every form and style, runs each file in its engine, and says what was refused and why.

For each network, form and style `edgekit.deploy` is called as a user would, with a few samples and ranges by minmax.
What it wrote is loaded in the engine that it is for (the native runtime, ONNX Runtime, OpenVINO, LiteRT; for TensorRT
its rules are checked and ONNX Runtime computes) and compared with the float model. A form may refuse a network; any
other error is a fault, and so is an answer that is not finite. Exits 1 if there is one.

    make sweep NETWORKS="lite0 silero" FORMS="native tflite"

Results are kept in a folder, network by network; ``--write`` puts the table of all that are there into
docs/networks.md.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

import edgekit
from classics import CLASSICS, LARGE_CLASSICS
from contest import choose
from edgekit import _native
from edgekit.choosing.closest import to_decibels
from edgekit.converters.fusion import report_fusion
from edgekit.converters.noise import relative_noise
from edgekit.converters.read_model import read_model
from edgekit.converters.write_onnx import STYLES, get_style
from edgekit.data import Sample
from edgekit.targets.errors import EdgekitError
from edgekit.targets.profile import PROFILES_DIR
from listeners import LISTENERS
from networks import Network

# How good ranges are does not matter here, and int8 is wherever it can be.
SAMPLES = 4
RANGES = "minmax"
PASSED, REFUSED, FAULT = "passed", "refused", "fault"
PAGE = Path(__file__).parent.parent / "docs" / "networks.md"
BEGIN, END = "<!-- begin: written by `make sweep` -->\n", "<!-- end -->\n"

Arrays = dict[str, npt.NDArray[Any]]
console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)


@dataclass(frozen=True)
class Form:
    """What `deploy` is asked for.

    Attributes:
        name: In the table.
        arguments: Of `deploy`.
        style: Of an ONNX form, or "".
    """

    name: str
    arguments: Mapping[str, Any]
    style: str = ""


FORMS = (
    Form("native", {"format": "native"}),
    *(Form(name, {"format": "onnx", "onnx_style": name}, name) for name in STYLES),
    *(
        Form(f"tflite {kind}", {"format": "tflite", "quantize": kind})
        for kind in ("int8", "16x8", "dynamic", "float16", "float32")
    ),
)


@dataclass(frozen=True)
class Result:
    """What came of one network in one form.

    Attributes:
        form: Its name.
        outcome: "passed", "refused" or "fault".
        decibels: Power of float's answers over that of the noise; None where nothing was run, or all outputs are whole
            numbers.
        largest: The largest difference of an output element from float's.
        words: Why it was refused, or what went wrong.
        seconds: What it took.
    """

    form: str
    outcome: str
    decibels: float | None = None
    largest: float | None = None
    words: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Record:
    """What came of one network; ``results`` by form."""

    network: str
    results: dict[str, Result] = field(default_factory=dict)


def sweep(network: Network, forms: list[Form], folder: Path) -> Record:
    """Returns what came of a network in ``forms``; files are written to ``folder``."""
    path = folder / f"source{network.suffix}"
    network.write(path)
    record = Record(network.name)
    try:
        samples = network.read_samples(folder)
        samples = samples[:: max(1, len(samples) // SAMPLES)][:SAMPLES]
        wanted = run_float(path, network, samples)
    except EdgekitError as error:
        for form in forms:
            record.results[form.name] = Result(form.name, REFUSED, words=_in_a_line(error))
        print_result(network.name, record.results[forms[0].name])
        return record
    for form in forms:
        start = time.monotonic()
        try:
            given = deploy_and_run(path, network, form, samples, folder)
            result = compare(form.name, wanted, given)
        except EdgekitError as error:
            result = Result(form.name, REFUSED, words=_in_a_line(error))
        except Exception as error:  # Whatever it is, it is what this program looks for.
            words = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
            result = Result(form.name, FAULT, words=words)
        seconds = time.monotonic() - start
        record.results[form.name] = Result(**{**asdict(result), "seconds": seconds})
        print_result(network.name, record.results[form.name])
    return record


def run_float(path: Path, network: Network, samples: list[Sample]) -> list[Arrays]:
    """Returns what the float model answers."""
    if path.suffix == ".onnx" and "constants" not in network.arguments:
        session = edgekit.load(path)
        return [session.run(sample) for sample in samples]
    source = read_model(
        path,
        constants=network.arguments.get("constants"),
        shapes=network.arguments.get("shapes"),
    )
    session = edgekit.load(source.reference)
    return [session.run(sample) for sample in samples]


def deploy_and_run(
    path: Path, network: Network, form: Form, samples: list[Sample], folder: Path
) -> list[Arrays]:
    """Returns the answers of one form in its engine.

    Raises:
        EdgekitError: The form refuses the network.
    """
    deployment = edgekit.deploy(
        path,
        calibration=samples,
        ranges=RANGES,
        precision="int8",
        target=write_profile(folder),
        # Shapes are fixed but for ONNX, which makes another graph of some networks.
        checkpoint=folder / f"calibration-{form.style and 'open'}",
        output=folder / form.name.replace(" ", "-"),
        **network.arguments,
        **form.arguments,
    )
    if form.style:
        assert deployment.onnx is not None
        report_fusion(deployment.onnx, form.style)
        if get_style(form.style).engine == "openvino":
            return run_openvino(deployment.onnx, samples)
    session = deployment.load()
    return [session.run(sample) for sample in samples]


def compare(form: str, wanted: list[Arrays], given: list[Arrays]) -> Result:
    """Returns how close answers are to float's; a fault where they are not of its shapes and types, or not finite."""
    largest = 0.0
    for expected, answer in zip(wanted, given, strict=True):
        for name, array in expected.items():
            found = answer.get(name)
            if found is None or (found.shape, found.dtype) != (array.shape, array.dtype):
                what = "missing" if found is None else f"{found.dtype}{list(found.shape)}"
                words = f"output '{name}' is {what}, not {array.dtype}{list(array.shape)}"
                return Result(form, FAULT, words=words)
            difference = array.astype(np.float64) - found.astype(np.float64)
            largest = max(largest, float(np.abs(difference).max(initial=0.0)))
    if not math.isfinite(largest):
        return Result(form, FAULT, words="an answer is not finite")
    real = any(array.dtype.kind == "f" for array in wanted[0].values())
    decibels = to_decibels(relative_noise(wanted, given)) if real else None
    return Result(form, PASSED, decibels, largest)


def write_profile(folder: Path) -> Path:
    """Returns the profile of this machine as a board: nothing is timed for boards."""
    text = (PROFILES_DIR / "host.toml").read_text(encoding="utf-8")
    isa = _native.best_isa()
    style = "ort-x86" if isa.startswith("x86") else "ort-arm"
    for key, value in (
        ("isa", isa),
        ("triple", f"{platform.machine()}-linux-gnu"),
        ("onnx_style", style),
    ):
        text = text.replace(f'{key} = "auto"', f'{key} = "{value}"')
    path = folder / "board.toml"
    path.write_text(text.replace('name = "host"', 'name = "board"'), encoding="utf-8")
    return path


def run_openvino(path: Path, samples: list[Sample]) -> list[Arrays]:
    """Returns what OpenVINO answers.

    Raises:
        EdgekitError: It cannot run the file, or is not there.
    """
    given, wanted = (path.with_name(f"{name}.npz") for name in ("inputs", "outputs"))
    np.savez(
        given,
        **{f"{n}:{name}": a for n, sample in enumerate(samples) for name, a in sample.items()},
    )
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("openvino_answers.py"), path, given, wanted],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["it ended its process"])[-1]
        raise EdgekitError(f"{path.name}: OpenVINO cannot run it: {words}")
    answers: list[Arrays] = [{} for _ in samples]
    with np.load(wanted) as arrays:
        for key, array in arrays.items():
            number, _, name = key.partition(":")
            answers[int(number)][name] = array
    return answers


def print_result(network: str, result: Result) -> None:
    tell = {PASSED: "green", REFUSED: "yellow", FAULT: "bold red"}
    decibels = (
        "" if result.decibels is None else f" {result.decibels:.1f} dB, off by {result.largest:.3g}"
    )
    console.print(
        f"{network}, {result.form}: [{tell[result.outcome]}]{result.outcome}[/]{decibels} "
        f"({result.seconds:.1f} s)"
    )
    if result.words:
        console.print(f"    {result.words}", markup=False)


def read_records(folder: Path, known: list[Network]) -> list[Record]:
    """Returns the records that are kept in ``folder``, in the order of ``known``."""
    records = []
    for network in known:
        path = folder / f"{_slug(network.name)}.json"
        if path.is_file():
            kept = json.loads(path.read_text(encoding="utf-8"))
            results = {name: Result(**result) for name, result in kept["results"].items()}
            records.append(Record(network.name, results))
    return records


def keep_record(record: Record, folder: Path) -> None:
    """Writes a record to ``folder``, with what is kept there of forms that were not tried again."""
    path = folder / f"{_slug(record.network)}.json"
    kept = json.loads(path.read_text(encoding="utf-8"))["results"] if path.is_file() else {}
    results = {**kept, **{name: asdict(result) for name, result in record.results.items()}}
    path.write_text(json.dumps({"results": results}, indent=1) + "\n", encoding="utf-8")


def _in_a_line(error: EdgekitError) -> str:
    return " ".join(str(error).split())


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


def make_page(records: list[Record]) -> str:
    """Returns the table and the refusals as Markdown."""
    forms = [form.name for form in FORMS]
    lines = [
        f"| network | {' | '.join(forms)} |",
        f"|---|{'---|' * len(forms)}",
    ]
    reasons: dict[str, int] = {}
    for record in records:
        cells = [_cell(record.results.get(name), reasons) for name in forms]
        lines.append(f"| {record.network} | {' | '.join(cells)} |")
    lines.append("")
    lines += [f"{number}. {words}" for words, number in reasons.items()]
    return "\n".join(lines) + "\n"


def _cell(result: Result | None, reasons: dict[str, int]) -> str:
    if result is None:
        return ""
    if result.outcome == PASSED:
        if result.decibels is None:
            return f"±{result.largest:.2g}"
        # Scores near nothing have no decibels to speak of.
        return f"{result.decibels:.0f}" + (
            f" (±{result.largest:.1g})" if result.decibels < 15 else ""
        )
    words = f"{result.outcome}: {result.words.splitlines()[0] if result.words else 'not finite'}"
    return f"[{reasons.setdefault(words, len(reasons) + 1)}]"


def write_page(records: list[Record]) -> None:
    """Puts the table between the two marks of docs/networks.md."""
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n{make_page(records)}\n{END}{tail}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", help="parts of names; default: all networks")
    parser.add_argument("--forms", nargs="+", default=[], help="parts of names; default: all forms")
    parser.add_argument("--output", type=Path, default=Path("build/sweep"))
    parser.add_argument(
        "--write", action="store_true", help="write docs/networks.md from all that is kept"
    )
    parser.add_argument("--only-write", action="store_true", help="run nothing before that")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    forms = [
        form
        for form in FORMS
        if not arguments.forms or any(word in form.name for word in arguments.forms)
    ]
    more = (*LISTENERS, *CLASSICS, *LARGE_CLASSICS)
    faults = []
    for network in () if arguments.only_write else choose(arguments.networks, more):
        with tempfile.TemporaryDirectory(prefix="edgekit-sweep-") as folder:
            try:
                record = sweep(network, forms, Path(folder))
            except FileNotFoundError as error:
                console.print(f"[bold red]LEFT OUT[/] {network.name}: {error}")
                continue
        keep_record(record, arguments.output)
        faults += [
            f"{network.name}, {result.form}"
            for result in record.results.values()
            if result.outcome == FAULT
        ]
    if arguments.write or arguments.only_write:
        write_page(read_records(arguments.output, choose([], more)))
    for fault in faults:
        console.print(f"FAULT: {fault}", style="bold")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
