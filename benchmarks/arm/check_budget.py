"""Holds kernels to the instructions that they took when budget.json was written.

Each line of the budget is one call of the kernel that an instruction set has for a shape, counted in emulation. A count
that rises by more than 2 % fails; one that falls is printed, so that the budget can follow:

    python benchmarks/arm/check_budget.py [--update]

Counts depend on the compiler: with another than the budget's, the run says so and compares nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from counting import CROSS, InstructionCounter, MissingToolError

BUDGET = Path(__file__).parent / "budget.json"
PROGRAM = CROSS / "benchmarks" / "arm" / "edgekit_call_kernel"
TOLERANCE = 0.02
CPUS = {
    "arm_neon": "cortex-a72",
    "arm_neondot": "cortex-a76",
    "arm_i8mm": "max,pauth-impdef=on",
}
# Operators of which an instruction set only has its parent's kernels.
INHERITED = {"arm_i8mm": ("depthwise", "sparse")}
# Layers of EfficientNet-Lite0, and shapes at whose edges tiles are cut; of sparse weights, how many of 100 blocks.
PROBLEMS = (
    "gemm 448x16x96",
    "gemm 448x24x144",
    "gemm 448x27x32",
    "gemm 448x32x16",
    "gemm 448x96x24",
    "gemm 196x40x240",
    "gemm 196x80x480",
    "gemm 196x480x80",
    "gemm 196x672x112",
    "gemm 49x192x1152",
    "gemm 49x1152x192",
    "gemm 49x320x1280",
    "gemm 1x1280x1000",
    "gemm 50x100x50",
    "sparse 196x512x512 50",
    "sparse 196x512x512 10",
    "sparse 784x256x256 25",
    "sparse 3136x64x64 50",
    "sparse 3136x144x24 25",
    "sparse 1x1280x1000 10",
    "sparse 50x100x50 25",
    "depthwise 8x112x32 3 1",
    "depthwise 8x56x96 3 2",
    "depthwise 8x28x144 5 2",
    "depthwise 8x28x240 5 1",
    "depthwise 14x14x480 3 1",
    "depthwise 14x14x672 5 1",
    "depthwise 7x7x1152 5 1",
    "depthwise 7x7x672 5 2",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help="writes budget.json anew")
    arguments = parser.parse_args()
    try:
        counter = InstructionCounter()
        compiler = compiler_version()
    except MissingToolError as error:
        print(f"LEFT OUT: counts of instructions: {error}", file=sys.stderr)
        return int(os.environ.get("EDGEKIT_REQUIRE_CROSS") == "1")
    counted = {
        f"{isa} {problem}": count_problem(counter, isa, problem)
        for isa in CPUS
        for problem in PROBLEMS
        if problem.split()[0] not in INHERITED.get(isa, ())
    }
    if arguments.update:
        BUDGET.write_text(json.dumps({"compiler": compiler, "counts": counted}, indent=2) + "\n")
        print(f"wrote {BUDGET.name}: {len(counted)} counts")
        return 0
    budget = json.loads(BUDGET.read_text())
    if budget["compiler"] != compiler:
        print(f"NOT COMPARED: the budget is of {budget['compiler']}, this compiler is {compiler}")
        return 0
    return compare(counted, budget["counts"])


def compiler_version() -> str:
    """Returns zig's version, from the build that is counted."""
    cache = (CROSS / "CMakeCache.txt").read_text()
    found = re.search(r"^EDGEKIT_ZIG:\w+=(.+)$", cache, re.MULTILINE)
    if found is None:
        raise MissingToolError(f"{CROSS} was not configured for zig")
    done = subprocess.run([found[1], "version"], capture_output=True, text=True, check=True)
    return f"zig {done.stdout.strip()}"


def count_problem(counter: InstructionCounter, isa: str, problem: str) -> int:
    """Returns the instructions of one call."""
    counts, _ = counter.count_step(
        CPUS[isa], lambda times: [str(PROGRAM), isa, *problem.split(), str(times)], 1, 2
    )
    return counts.total()


def compare(counted: dict[str, int], budget: dict[str, int]) -> int:
    """Prints every count beside its budget. Returns 1 where one rose by more than the tolerance, or has no budget."""
    failed = False
    for name, count in counted.items():
        allowed = budget.get(name)
        change = count / allowed - 1 if allowed else float("inf")
        verdict = "ROSE" if change > TOLERANCE else "fell" if change < -TOLERANCE else ""
        failed |= change > TOLERANCE
        print(f"{name:45} {count:11,} {change:+8.2%} {verdict}".rstrip())
    if missing := sorted(budget.keys() - counted.keys()):
        failed = True
        print(f"not counted, but in the budget: {', '.join(missing)}")
    if failed:
        print("instructions rose; where that is meant, write the budget anew with --update")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
