"""Counts what blocks of zeros save on emulated ARM boards: in single products, and in EfficientNet-Lite0.

Instructions, not times. Of a product, those of one call of the dense kernel that an instruction set has over those of
its sparse one; of the network, those of one inference with weights of 1x1 convolutions set to 0 in blocks of 4 (k) by
32 (n), the smallest first: what it answers then does not count here.

    python benchmarks/arm/sparse.py [--zeros 0.5]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import bench
import numpy as np
import onnx
from check_budget import CPUS, count_problem
from counting import BUILD, InstructionCounter, MissingToolError
from onnx import numpy_helper
from rich.console import Console
from rich.table import Table

import edgekit
from efficientnet_lite0 import build_model

SHAPES = ("196x512x512", "784x256x256", "3136x64x64")
# Of 100 blocks how many are left, and how many times fewer instructions there should be.
BARS = {50: 1.5, 25: 2.6, 10: 5.0}
BARRED = ("arm_neon", "arm_neondot")
BOARDS = {"cortex-a72": "rpi4", "cortex-a76": "rpi5"}
BLOCK = (4, 32)
console = Console(width=None if sys.stdout.isatty() else 120)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zeros", type=float, default=0.5, help="share of the network's blocks")
    arguments = parser.parse_args()
    try:
        counter = InstructionCounter()
    except MissingToolError as error:
        print(f"sparse: {error}", file=sys.stderr)
        return 1
    print_products(counter)
    print_network(counter, arguments.zeros)
    return 0


def print_products(counter: InstructionCounter) -> None:
    table = Table(title="Instructions of a dense call over those of a sparse one, by blocks left")
    for heading in ("instruction set", "MxKxN", "dense", *(f"{kept} %" for kept in BARS), "none"):
        table.add_column(heading)
    for isa in CPUS:
        for shape in SHAPES:
            dense = count_problem(counter, isa, f"gemm {shape}")
            cells = []
            for kept in (*BARS, 0):
                ratio = dense / count_problem(counter, isa, f"sparse {shape} {kept}")
                missed = isa in BARRED and ratio < BARS.get(kept, 0)
                cells.append(f"{ratio:.2f}{f' (bar {BARS[kept]})' if missed else ''}")
            table.add_row(isa, shape, f"{dense:,}", *cells)
    console.print(table)


def print_network(counter: InstructionCounter, zeros: float) -> None:
    models = {"dense": BUILD / "efficientnet_lite0.onnx"}
    build_model(models["dense"])
    sparse = f"{zeros:.0%} of the 1x1 blocks 0"
    models[sparse] = BUILD / f"efficientnet_lite0_{zeros:.2f}.onnx"
    onnx.save(clear_blocks(onnx.load(models["dense"]), zeros), models[sparse])
    table = Table(title="EfficientNet-Lite0 int8, one inference: millions of instructions")
    for heading in ("CPU", *models, "times fewer", "bytes of the plans"):
        table.add_column(heading)
    for cpu, board in BOARDS.items():
        totals, sizes = [], []
        for name, model in models.items():
            folder = deploy(
                model, board, BUILD / f"{board}-{'dense' if name == 'dense' else 'sparse'}"
            )
            runner = bench.RUNNERS["edgekit, zig"]
            totals.append(bench.count_edgekit(counter, runner, cpu, folder).total())
            sizes.append((folder / "model.plan").stat().st_size)
        counts = [f"{total / 1e6:.1f}" for total in totals]
        table.add_row(
            cpu, *counts, f"{totals[0] / totals[1]:.2f}", " ".join(f"{s:,}" for s in sizes)
        )
    console.print(table)


def deploy(model: Path, board: str, folder: Path) -> Path:
    """Writes a bundle. Counts do not depend on answers, so it is calibrated on noise."""
    noise = np.random.default_rng(0).normal(0, 0.6, (4, 3, 224, 224))
    edgekit.deploy(
        model,
        target=board,
        calibration=np.clip(noise, -1, 1).astype(np.float32),
        ranges="minmax",
        format=("native",),
        output=folder,
    )
    return folder


def clear_blocks(model: onnx.ModelProto, zeros: float) -> onnx.ModelProto:
    """Sets a share of the blocks of each 1x1 convolution to 0, those with the smallest mean magnitude."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        groups = {attribute.name: attribute.i for attribute in node.attribute}.get("group", 1)
        tensor = weights.get(node.input[1]) if node.op_type == "Conv" else None
        if tensor is None or groups != 1 or list(tensor.dims[2:]) != [1, 1]:
            continue
        w = numpy_helper.to_array(tensor).copy()
        w[:, :, 0, 0] = _clear(w[:, :, 0, 0], zeros)
        tensor.CopyFrom(numpy_helper.from_array(w, tensor.name))
    return model


def _clear(w: np.ndarray, zeros: float) -> np.ndarray:
    """Returns weights ``[n, k]`` with a share of their blocks 0."""
    depth, columns = BLOCK
    rows = np.arange(0, w.shape[0], columns)
    steps = np.arange(0, w.shape[1], depth)

    def sums(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(np.add.reduceat(values, rows, axis=0), steps, axis=1)

    means = sums(np.abs(w)) / sums(np.ones_like(w))
    order = means.argsort(axis=None).argsort().reshape(means.shape)
    kept = order >= round(zeros * means.size)
    return w * kept.repeat(columns, 0)[: len(w)].repeat(depth, 1)[:, : w.shape[1]]


if __name__ == "__main__":
    sys.exit(main())
