"""Times the solver on all layers of EfficientNet-Lite0: gathering Hessians, and rounding to int8 and to int4.

Photographs as the network sees them; two threads unless told otherwise. Prints a line for each step, the most memory
that the process held meanwhile, and what the largest layer's Hessian takes. `--json` writes the same.

    python benchmarks/solver.py --samples 48 --threads 2
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgekit.converters.calibrate import calibrate
from edgekit.converters.compensate import INT4, INT8, Hessians, fit_rows, round_by_hessians
from edgekit.converters.compensate.layers import find_patches
from edgekit.converters.hessians import gather_hessians
from edgekit.converters.passes import simplify
from edgekit.converters.passes.rewrite import constant
from edgekit.converters.quantizable import output_axis
from edgekit.converters.read_onnx import read_onnx
from edgekit.timing import describe_machine
from networks import NETWORKS

_BAR_SECONDS = 60.0


@dataclass(frozen=True)
class Step:
    """What a step took.

    Attributes:
        name: In words.
        seconds: Of the clock.
        peak_mb: The most that the process held until its end, in 10^6 bytes.
    """

    name: str
    seconds: float
    peak_mb: float


def take(steps: list[Step], name: str, work: Callable[[], object]) -> object:
    """Runs ``work`` and notes what it took."""
    begin = time.perf_counter()
    result = work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    steps.append(Step(name, time.perf_counter() - begin, peak))
    print(f"{name:32} {steps[-1].seconds:7.2f} s   at most {peak:6.0f} MB", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="EfficientNet-Lite0")
    parser.add_argument("--samples", type=int, default=48)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-limit", type=int, default=1 << 30)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    network = next(each for each in NETWORKS if each.name == arguments.network)
    steps: list[Step] = []
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        folder = Path(name)
        network.write(folder / "source.onnx")
        model = read_onnx(folder / "source.onnx")
        samples = list(network.read_samples(folder))[: arguments.samples]
        simplify(model)
        calibration = calibrate(model, samples)
        take(steps, "before", lambda: None)
        hessians = take(
            steps,
            "gather",
            lambda: gather_hessians(
                model,
                samples,
                calibration,
                folder / "kept",
                memory_limit=arguments.memory_limit,
                threads=arguments.threads,
            ),
        )
        assert isinstance(hessians, Hessians)
        layers = [node for node in model.graph if node.name in hessians]

        def rows_of(node: ir.Node, groups: int) -> np.ndarray:
            weight = constant(node.inputs[1])
            assert weight is not None
            axis = output_axis(node)
            channels = weight.shape[axis]
            rows = np.moveaxis(weight, axis, 0).astype(np.float64)
            return rows.reshape(groups, channels // groups, -1)

        def round_int8() -> None:
            for node in layers:
                h = hessians.blended(node.name or "")
                rows = rows_of(node, len(h))
                scale = np.abs(rows).max(axis=2, keepdims=True) / INT8.high
                targets = rows / np.where(scale > 0, scale, 1.0)
                round_by_hessians(targets.reshape(-1, targets.shape[2], 1), INT8, h)

        def fit_int4() -> None:
            for node in layers:
                h = hessians.blended(node.name or "")
                rows = rows_of(node, len(h))
                fit_rows(rows, h, INT4, np.zeros(rows.shape[:2]))

        take(steps, "round to int8", round_int8)
        take(steps, "fit scales and codes of int4", fit_int4)
    largest = max(patches.bytes for node in layers if (patches := find_patches(node)) is not None)
    total = sum(step.seconds for step in steps[1:])
    print(
        f"{len(layers)} layers, {len(samples)} samples, {arguments.threads} threads: {total:.1f} s "
        f"(bar: {_BAR_SECONDS:.0f}); the largest layer's Hessians take {largest / 1e6:.1f} MB"
    )
    if arguments.json:
        told = {
            "machine": asdict(describe_machine()),
            "network": network.name,
            "layers": len(layers),
            "samples": len(samples),
            "threads": arguments.threads,
            "largest_hessian_mb": largest / 1e6,
            "seconds": total,
            "steps": [asdict(step) for step in steps],
        }
        arguments.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
