"""Holds the three forms of networks side by side: native, ONNX in ONNX Runtime, TFLite in LiteRT.

Each network of the contest is quantized once and written three times. The outputs of each form are compared with the
native form's, byte for byte, and each operator of the TFLite form is run by itself on the native form's codes, with
XNNPACK and with TensorFlow Lite's plain kernels (BUILTIN_REF). Exits 1 where an operator is more than a code away, or
where the forms of EfficientNet-Lite0 or DS-CNN give different bytes.

    make bench-forms NETWORKS="lite0 ds-cnn"
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from rich.console import Console
from rich.table import Table

from contest import choose
from edgekit import _native
from edgekit.converters.calibrate import calibrate
from edgekit.converters.fix_shapes import fix_shapes, open_inputs
from edgekit.converters.lower import fuse_floats, lower
from edgekit.converters.passes import simplify
from edgekit.converters.program import Program
from edgekit.converters.quantize import quantize
from edgekit.converters.read_onnx import bind_batch, read_onnx
from edgekit.converters.reference import run_program
from edgekit.converters.tflite import write_tflite
from edgekit.converters.tflite.compare import OperatorComparison, compare_operators
from edgekit.converters.write_onnx import write_onnx
from edgekit.converters.write_plan import write_plan
from edgekit.data import Sample
from edgekit.session import load
from edgekit.targets.errors import ModelError
from networks import Network

# Samples that ranges are learned from: how good they are does not matter here.
CALIBRATION = 8
RANGES = "minmax"
# Samples that all forms run; the first is what each operator runs by itself.
SAMPLES = 4
# Whose forms must give the same bytes.
EQUAL = frozenset({"EfficientNet-Lite0", "DS-CNN"})
INTERPRETERS = {"XNNPACK": OpResolverType.AUTO, "BUILTIN_REF": OpResolverType.BUILTIN_REF}

console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)


@dataclass
class Comparison:
    """What comparing the forms of one network showed.

    Attributes:
        network: Its name.
        transposes: Of the TFLite form.
        operators: Of the TFLite form.
        outputs: By form, how many output elements differ from the native form's, of how many.
        layers: By interpreter, each operator by itself.
        refused: What form could not be written, and why.
    """

    network: str
    transposes: int = 0
    operators: int = 0
    outputs: dict[str, tuple[int, int]] = field(default_factory=dict)
    layers: dict[str, list[OperatorComparison]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """What is not as promised."""
        faults = [
            f"{self.network}: {found.name} ({'+'.join(found.written)}): {found.largest} codes in {name}"
            for name, layers in self.layers.items()
            for found in layers
            if found.largest > 1
        ]
        if self.network in EQUAL:
            faults += [
                f"{self.network}: {differing} of {total} outputs differ in the {form} form"
                for form, (differing, total) in self.outputs.items()
                if differing
            ]
            if set(self.outputs) != {"onnx", "tflite"}:
                faults.append(f"{self.network}: a form is missing")
        return faults


def compare_forms(network: Network, folder: Path) -> Comparison:
    """Writes the forms of ``network`` to ``folder`` and compares them."""
    result = Comparison(network.name)
    model, samples = quantize_network(network, folder)
    write_plan(
        lower(model),
        folder / "net.plan",
        isa=_native.best_isa(),
        target="host",
        source_digest="0" * 64,
    )
    files = {"native": folder / "net.plan"}
    style = "ort-x86" if _native.best_isa().startswith("x86") else "ort-arm"
    try:
        files["onnx"] = write_onnx(model, folder / "net.onnx", style=style)
    except ModelError as error:
        result.refused.append(f"onnx: {error}")
    program = fuse_floats(lower(model, fuse=False))
    try:
        summary = write_tflite(program, folder / "net.tflite")
        files["tflite"] = summary.path
        result.transposes, result.operators = summary.transposes, len(summary.operators)
    except ModelError as error:
        result.refused.append(f"tflite: {error}")
    # Samples of some networks lack the batch.
    samples = [
        {name: np.reshape(value, program.tensors[name].shape) for name, value in sample.items()}
        for sample in samples
    ]
    result.outputs = compare_outputs(files, samples[:SAMPLES])
    if "tflite" in files:
        result.layers = compare_layers(program, samples[0])
    return result


def quantize_network(network: Network, folder: Path) -> tuple[ir.Model, list[Sample]]:
    """Returns the quantized network, of fixed shapes, and samples for it."""
    path = folder / "float.onnx"
    network.write(path)
    samples = network.read_samples(folder)[:CALIBRATION]
    graph = read_onnx(path)
    names = [str(value.name) for value in open_inputs(graph)]
    fix_shapes(graph, {name: (None, *samples[0][name].shape[1:]) for name in names})
    if any(node.op_type in ("Shape", "Size") for node in graph.graph):
        bind_batch(graph, 1)
    simplify(graph)
    return quantize(graph, calibrate(graph, samples), method=RANGES), samples


def compare_outputs(files: Mapping[str, Path], samples: list[Sample]) -> dict[str, tuple[int, int]]:
    """Returns how many elements of the outputs differ from the native form's, and of how many, by form."""
    sessions = {form: load(path) for form, path in files.items()}
    counts = {form: (0, 0) for form in sessions if form != "native"}
    for sample in samples:
        wanted = sessions["native"].run(sample)
        for form, (differing, total) in counts.items():
            found = sessions[form].run(sample)
            differing += sum(int(np.count_nonzero(found[name] != wanted[name])) for name in wanted)
            counts[form] = (differing, total + sum(array.size for array in wanted.values()))
    return counts


def compare_layers(program: Program, sample: Sample) -> dict[str, list[OperatorComparison]]:
    """Returns the comparison of each operator, by interpreter."""
    recorded = run_program(program, sample)
    return {
        name: compare_operators(program, recorded, partial(run_bytes, resolver))
        for name, resolver in INTERPRETERS.items()
    }


def run_bytes(resolver: OpResolverType, data: bytes, inputs: list[Any]) -> Any:
    """Runs a TFLite file and returns its only output."""
    interpreter = Interpreter(
        model_content=data, num_threads=1, experimental_op_resolver_type=resolver
    )
    interpreter.allocate_tensors()
    for info, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(info["index"], array)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def show(results: list[Comparison]) -> None:
    """Prints outputs, then the operators of which some codes differ."""
    table = Table(
        "network",
        "operators",
        "transposes",
        "outputs that differ",
        "codes that differ, operator by operator",
    )
    for result in results:
        outputs = [f"{form} {n} of {total}" for form, (n, total) in result.outputs.items()]
        layers = [summarize(name, found) for name, found in result.layers.items()]
        table.add_row(
            result.network,
            str(result.operators),
            str(result.transposes),
            "\n".join(outputs + result.refused),
            "\n".join(layers),
        )
    console.print(table)
    for result in results:
        for name, layers in result.layers.items():
            for found in layers:
                if found.differing:
                    share = 100 * found.differing / found.elements
                    console.print(
                        f"{result.network}, {name}: {found.name} ({'+'.join(found.written)}): "
                        f"{share:.4f} %, at most {found.largest}"
                    )


def summarize(name: str, layers: list[OperatorComparison]) -> str:
    """Returns how many codes differ in how many operators."""
    differing = sum(found.differing for found in layers)
    elements = sum(found.elements for found in layers)
    touched = sum(found.differing > 0 for found in layers)
    largest = max((found.largest for found in layers), default=0)
    return (
        f"{name}: {differing} of {elements} in {touched} of {len(layers)} operators, "
        f"at most {largest}"
    )


def main() -> None:
    """Compares the networks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", help="parts of names; default: all")
    parser.add_argument("--json", type=Path, help="write everything there")
    arguments = parser.parse_args()
    results = []
    for network in choose(arguments.networks):
        with tempfile.TemporaryDirectory(prefix="edgekit-forms-") as folder:
            try:
                results.append(compare_forms(network, Path(folder)))
            except ModelError as error:
                results.append(Comparison(network.name, refused=[str(error)]))
        console.print(f"{network.name}: done")
    show(results)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=1))
    faults = [fault for result in results for fault in result.faults]
    for fault in faults:
        console.print(f"FAULT: {fault}", style="bold")
    sys.exit(1 if faults or not results else 0)


if __name__ == "__main__":
    main()
