"""Counts when sparse kernels pay on ARM boards, and writes the rows of converters/prune/break_even.toml that say so.

Instructions of a call in emulation, of the dense kernel that an instruction set has for a shape and of its sparse one
at some densities; a row is the straight line through them. They are no times: multiplications bind both kernels, so
that a board's ratio is nearer to the ratio of products than theirs.

    python benchmarks/arm/break_even.py [--update]
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import numpy as np
from check_budget import CPUS, count_problem
from counting import ROOT, InstructionCounter, MissingToolError

TABLE = ROOT / "converters" / "prune" / "break_even.toml"
DENSITIES = (0, 10, 25, 50, 75, 100)
BLOCK = "4x16"
# The shapes at which other instruction sets are timed; and narrow ones, of whose panels most columns are none.
_SHAPES_SOURCE = ROOT / "benchmarks" / "break_even.cc"
_NARROW = (
    *((m, k, 8) for m in (1, 49, 784, 12544) for k in (16, 128, 1024)),
    *((m, 128, 3) for m in (1, 784)),
)
# What a row may say where the sparse kernel takes more without a block: the table knows no shape at which none pays.
_LEAST_DENSITY = 0.001
_MOST_FLOOR = 0.999


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help=f"writes the rows to {TABLE.name}")
    arguments = parser.parse_args()
    try:
        counter = InstructionCounter()
    except MissingToolError as error:
        print(f"break-even: {error}", file=sys.stderr)
        return 1
    rows = []
    for isa in CPUS:
        for shape in (*read_shapes(_SHAPES_SOURCE), *_NARROW):
            rows.append(count_row(counter, isa, shape))
            print(rows[-1], flush=True)
    if arguments.update:
        update(TABLE, rows)
    return 0


def read_shapes(path: Path) -> list[tuple[int, int, int]]:
    """Returns the shapes (m, k, n) of a table in C++ that names them kTableShapes."""
    listed = re.search(r"kTableShapes\[\] = \{(.*?)\};", path.read_text(), re.DOTALL)
    assert listed is not None, path
    return [
        (int(m), int(k), int(n)) for m, k, n in re.findall(r"\{(\d+), (\d+), (\d+)\}", listed[1])
    ]


def count_row(counter: InstructionCounter, isa: str, shape: tuple[int, int, int]) -> str:
    """Returns a row of the table."""
    m, k, n = shape
    size = f"{m}x{k}x{n}"
    dense = count_problem(counter, isa, f"gemm {size}")
    counts = [count_problem(counter, isa, f"sparse {size} {kept}") for kept in DENSITIES]
    slope, floor = np.polyfit(np.array(DENSITIES) / 100, np.array(counts) / dense, 1)
    floor = min(max(float(floor), 0.0), _MOST_FLOOR)
    density = min(max((1 - floor) / float(slope), _LEAST_DENSITY), 1.0)
    return "\n".join(
        (
            "[[row]]",
            f'isa = "{isa}"',
            f'block = "{BLOCK}"',
            f"m = {m}",
            f"k = {k}",
            f"n = {n}",
            f"density = {density:.3f}",
            f"floor = {floor:.3f}",
            f'source = "instructions: one call on {CPUS[isa].split(",")[0]} in emulation"',
            "",
        )
    )


def update(path: Path, rows: list[str]) -> None:
    """Replaces all rows of ARM's instruction sets."""
    head, *blocks = re.split(r"(?m)^(?=\[\[row\]\])", path.read_text())
    kept = [block for block in blocks if not re.search(r'^isa = "arm_', block, re.MULTILINE)]
    text = [head.rstrip(), *(block.rstrip() for block in (*kept, *rows))]
    path.write_text("\n\n".join(text) + "\n")


if __name__ == "__main__":
    sys.exit(main())
