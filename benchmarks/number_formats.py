"""What each number format costs: noise of the answers, time and size of networks whose layers have it where they can.

Every layer with weights that can hold the format has it, others int8 or, for formats of floats, float32.
Noise is that of the answers against float32's, on samples behind those that calibration saw.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from functools import partial
from pathlib import Path

import onnx_ir as ir
from rich.console import Console
from rich.table import Table

from edgekit import _native
from edgekit.converters.calibrate import calibrate
from edgekit.converters.can_hold import can_hold
from edgekit.converters.lower import lower
from edgekit.converters.noise import relative_noise
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.passes import simplify
from edgekit.converters.quantizable import is_layer
from edgekit.converters.quantize import quantize
from edgekit.converters.read_model import read_model
from edgekit.converters.write_plan import write_plan
from edgekit.open_sizes import take_batch
from edgekit.session import NativeSession
from edgekit.timing import describe_machine, measure_interleaved
from networks import NETWORKS, Network

SEEN = 32
JUDGED = 16


def choose_formats(graph: ir.Graph, format: NumberFormat) -> dict[str, NumberFormat]:
    """Returns ``format`` for each layer that can hold it, and float32 for the rest where it does not have codes."""
    rest = NumberFormat.INT8 if format.value.startswith("int") else NumberFormat.FLOAT32
    chosen = {}
    for node in graph:
        name = node.name or ""
        if is_layer(node) and can_hold(node, format) is None:
            chosen[name] = format
        elif can_hold(node, rest) is None:
            chosen[name] = rest
    return chosen


def measure(network: Network, seconds: float, isa: str) -> list[dict[str, object]]:
    """Returns a row for each format."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / f"model{network.suffix}"
        network.write(path)
        samples = network.read_samples(folder)
        graph = read_model(path).graph
        simplify(graph)
        take_batch(graph, 1)
        learned = calibrate(graph, samples[:SEEN])
        judged = samples[SEEN : SEEN + JUDGED] or samples[:JUDGED]
        rows: list[dict[str, object]] = []
        sessions, answers = {}, {}
        for format in NumberFormat:
            formats = choose_formats(graph.graph, format)
            model = quantize(graph, learned, formats=formats)
            plan = folder / f"{format.value}.plan"
            summary = write_plan(lower(model), plan, isa=isa, target="host", source_digest="0" * 64)
            session = NativeSession(plan, _native.Plan.open(plan), 1)
            sessions[format.value] = session
            answers[format.value] = [session.run(sample) for sample in judged]
            held = sum(
                is_layer(node) and formats.get(node.name or "") is format for node in graph.graph
            )
            rows.append({"format": format.value, "layers": held, "bytes": summary.file_size})
        timings = measure_interleaved(
            {key: partial(session.run, judged[0]) for key, session in sessions.items()},
            threads=1,
            seconds=seconds,
        )
        wanted = answers[NumberFormat.FLOAT32.value]
        for row in rows:
            key = str(row["format"])
            noise = relative_noise(wanted, answers[key])
            row["snr_db"] = -10 * math.log10(noise) if noise > 0 else math.inf
            row["ms"] = timings[key].median_ms
        return rows


def main() -> None:
    """Measures the networks that are named, or EfficientNet-Lite0 and DS-CNN."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", action="append")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--isa", default=_native.best_isa())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    wanted = arguments.network or ["EfficientNet-Lite0", "DS-CNN"]
    unknown = set(wanted) - {network.name for network in NETWORKS}
    if unknown:
        sys.exit(f"unknown networks: {', '.join(sorted(unknown))}")
    console = Console(width=120)
    console.print(f"{describe_machine()}, {arguments.isa}, one thread")
    found = {}
    for network in NETWORKS:
        if network.name not in wanted:
            continue
        rows = found[network.name] = measure(network, arguments.seconds, arguments.isa)
        base = next(float(str(row["ms"])) for row in rows if row["format"] == "int8")
        table = Table("format", "layers", "dB", "time / int8", "kB", title=network.name)
        for row in rows:
            table.add_row(
                str(row["format"]),
                str(row["layers"]),
                f"{row['snr_db']:.1f}",
                f"{float(str(row['ms'])) / base:.2f}",
                f"{int(str(row['bytes'])) / 1000:.0f}",
            )
        console.print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
