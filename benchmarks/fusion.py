"""Says what engines make of the int8 files of real networks: which operators run on codes, which not and why.

Each network is quantized with a few samples of its own data, written in every style, and looked at by the engine of
the style (docs/onnx.md): ONNX Runtime and OpenVINO load the file, for TensorRT NVIDIA's rules are checked. Of those
operators that should run on codes (convolutions, products, sums, pools, concatenations) it says which do not, and why.

    make bench-fusion NETWORKS="lite0 det" STYLES="ort-x86 openvino"
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir
from rich.console import Console
from rich.table import Table

from classics import CLASSICS
from contest import choose
from edgekit.converters.calibrate import Calibration, RangeChoice, calibrate
from edgekit.converters.fix_shapes import fix_shapes, open_inputs
from edgekit.converters.fusion import FUSIBLE, FusionReport, report_fusion
from edgekit.converters.passes import simplify
from edgekit.converters.quantization import get_quantization, stays_float
from edgekit.converters.quantize import quantize
from edgekit.converters.read_onnx import read_onnx
from edgekit.converters.regions import find_regions
from edgekit.converters.write_onnx import STYLES, write_onnx
from edgekit.targets.errors import ModelError, ToolError
from networks import Network

# Samples that ranges are learned from: how good they are does not matter here.
CALIBRATION = 4
# What TensorRT 8.5 and 8.6 read.
TENSORRT_OPSET = 17
STYLE_NAMES = [name for name in STYLES if name != "tensorrt-float"]

IN_FUNCTION = "part of a function of one value, rounded once at its end"

console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)


@dataclass
class Look:
    """What an engine makes of one network.

    Attributes:
        network: Its name.
        style: The style of its file.
        report: Node by node, None where there is none.
        why_not: Why there is none.
        inside: Names of nodes that are a part of a function of one value, which is rounded once at its end.
    """

    network: str
    style: str
    report: FusionReport | None = None
    why_not: str = ""
    inside: frozenset[str] = field(default_factory=frozenset)

    def count_left(self) -> Counter[tuple[str, str]]:
        """Returns, by operator and reason, how many nodes of those that should run on codes do not."""
        assert self.report is not None
        left = [node for node in self.report.left_float if node.op_type in FUSIBLE]
        return Counter(
            (node.op_type, IN_FUNCTION if node.name in self.inside else _shorten(node.reason))
            for node in left
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns what JSON can hold."""
        facts: dict[str, Any] = {"network": self.network, "style": self.style}
        if self.report is None:
            return {**facts, "why_not": self.why_not}
        return {
            **facts,
            "runtime": self.report.runtime,
            "share": self.report.share,
            "operators": {kind: list(counts) for kind, counts in self.report.count().items()},
            "left_float": [
                {"node": node.name, "operator": node.op_type, "reason": node.reason}
                for node in self.report.left_float
            ],
        }


def prepare(network: Network, folder: Path) -> tuple[ir.Model, Calibration]:
    """Returns the simplified network and what calibration learned of it."""
    source = folder / "source.onnx"
    network.write(source)
    samples = network.read_samples(folder)
    samples = samples[:: max(1, len(samples) // CALIBRATION)][:CALIBRATION]
    graph = read_onnx(source)
    if names := [str(value.name) for value in open_inputs(graph)]:
        fix_shapes(graph, {name: (None, *samples[0][name].shape[1:]) for name in names})
    simplify(graph)
    return graph, calibrate(graph, samples)


def look(network: Network, styles: list[str]) -> list[Look]:
    """Writes a network in each style and asks the engines."""
    looks = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graph, learned = prepare(network, folder)
        for style in styles:
            opset = TENSORRT_OPSET if style.startswith("tensorrt") else None
            choice = RangeChoice(symmetric=STYLES[style].symmetric)
            found = Look(network.name, style)
            looks.append(found)
            try:
                quantized = quantize(graph, learned, method=choice)
                found.inside = find_functions(quantized)
                path = write_onnx(quantized, folder / "net.onnx", style=style, most_opset=opset)
                found.report = report_fusion(path, style)
            except (ModelError, ToolError) as error:
                found.why_not = str(error).splitlines()[0]
    return looks


def find_functions(quantized: ir.Model) -> frozenset[str]:
    """Returns names of the nodes of functions that take more than one operator, codes to codes."""
    nodes = [node for node in quantized.graph if not stays_float(node)]
    regions = find_regions(nodes, lambda value: get_quantization(value) is not None)
    return frozenset(
        node.name or ""
        for region in regions.values()
        if len(region.nodes) > 1
        for node in region.nodes
    )


def _shorten(reason: str) -> str:
    """Returns a reason without the names of nodes and values, so that equal ones can be counted."""
    parts = reason.split("'")
    return "...".join(parts[::2]) if len(parts) > 2 else reason


def print_look(found: Look) -> None:
    if found.report is None:
        console.print(f"[yellow]{found.network}, {found.style}: not looked at: {found.why_not}[/]")
        return
    counts = ", ".join(f"{kind} {f}/{n}" for kind, (f, n) in found.report.count().items())
    console.print(
        f"{found.network}, {found.style}: {100 * found.report.share:.0f} % of nodes; {counts}"
    )
    for (kind, reason), count in found.count_left().most_common():
        console.print(f"    {count} {kind}: {reason}")


def make_table(looks: list[Look]) -> Table:
    """Returns, for each style, how many of the operators that should run on codes do, over all networks."""
    kinds = sorted(FUSIBLE)
    table = Table("style", "engine", *kinds, title="operators on codes, of all networks")
    for style in dict.fromkeys(look.style for look in looks):
        reports = [look.report for look in looks if look.style == style and look.report]
        counts = [report.count() for report in reports]
        cells = []
        for kind in kinds:
            pairs = [count[kind] for count in counts if kind in count]
            cells.append(f"{sum(f for f, _ in pairs)}/{sum(n for _, n in pairs)}")
        table.add_row(style, reports[0].runtime if reports else "not looked at", *cells)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", help="parts of names; default: all networks")
    parser.add_argument("--styles", nargs="+", choices=STYLE_NAMES, default=STYLE_NAMES)
    parser.add_argument(
        "--json", type=Path, help="write every node that is left float to this file"
    )
    arguments = parser.parse_args()

    looks = []
    for network in choose(arguments.networks, CLASSICS):
        try:
            found = look(network, arguments.styles)
        except FileNotFoundError as error:
            console.print(f"[bold red]LEFT OUT[/] {network.name}: {error}")
            continue
        for one in found:
            print_look(one)
        looks += found
    console.print(make_table(looks))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        records = [found.to_dict() for found in looks]
        arguments.json.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
