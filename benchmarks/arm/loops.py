"""Models the inner loops of the ARM kernels with llvm-mca: the share of the multiply pipes that they keep busy.

A loop is what lies between a branch backwards and where it goes, in a kernel's object code, with branches on the way
not taken: of those without another loop inside, the one that multiplies most, of equals the shortest. Depthwise tiles,
which end in writing codes, are cut out of what is executed (tiles.py) and modelled whole, and without what makes codes
of sums. llvm-mca takes every load to hit the first-level cache and knows no fetching: it ranks loops and is no
measurement.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from counting import CROSS_GNU, MissingToolError
from tiles import DOT_TILES, PLAIN_TILES, Tile, trace_tile

# g++ lays a loop out in one piece; zig moves what is rare behind it.
_OBJECTS = CROSS_GNU / "csrc" / "CMakeFiles" / "edgekit_kernels.dir" / "kernels"
_BRANCH = re.compile(r"^(b|b\.[a-z]+|bl|br|blr|ret|cbn?z|tbn?z)$")
# What makes codes of a depthwise tile's sums, and writes them.
_EPILOGUE = re.compile(r"^(scvtf|fmul|fadd|uzp1|sqxtn2?|st1)$")
_ITERATIONS = 200


@dataclass(frozen=True)
class Model:
    """A CPU as llvm-mca models it.

    Attributes:
        board_cpu: The CPU that is meant.
        mcpu: The model's name. LLVM's cortex-a76 is its model of the A57; neoverse-n1 is a sibling of the A76.
        architecture: What its assembler must know.
    """

    board_cpu: str
    mcpu: str
    architecture: str


A72 = Model("Cortex-A72", "cortex-a72", "+v8a")
A53 = Model("Cortex-A53", "cortex-a53", "+v8a")
A76 = Model("Cortex-A76", "neoverse-n1", "+v8.2a,+dotprod")
V1 = Model("Neoverse V1", "neoverse-v1", "+v8.2a,+dotprod,+i8mm")
N2 = Model("Neoverse N2", "neoverse-n2", "+v8.2a,+dotprod,+i8mm")


@dataclass(frozen=True)
class Loop:
    """Where a loop is, and what counts as its multiplications."""

    name: str
    source: str
    multiply: str
    models: tuple[Model, ...]

    def count_products(self, text: str) -> int:
        """Returns the products of an instruction: of as many lanes as its first operand has, four to a lane of sdot."""
        name = text.split(" ", 1)[0]
        return _count_products(text) if re.fullmatch(self.multiply, name) else 0


def _count_products(text: str) -> int:
    name, _, operands = text.partition(" ")
    lanes = re.match(r"v\d+\.(\d+)", operands)
    return int(lanes[1]) * (4 if name == "sdot" else 1) if lanes is not None else 0


LOOPS = (
    Loop("GEMM", "gemm/arm_neon.cc", r"smull2?|smlal2?", (A72, A53)),
    Loop("float32 GEMM", "float_gemm/arm_neon.cc", r"fmla", (A72, A53, A76)),
    Loop("float32 depthwise", "float_depthwise/arm_neon.cc", r"fmla", (A72, A53, A76)),
    Loop("quantize", "elementwise/arm_neon.cc", r"fdiv", (A72, A53, A76)),
    Loop("GEMM", "gemm/arm_neondot.cc", r"sdot", (A76,)),
    Loop("GEMM", "gemm/arm_i8mm.cc", r"smmla", (V1, N2)),
    Loop("sparse GEMM", "sparse_gemm/arm_neon.cc", r"smull2?|smlal2?", (A72, A53)),
    Loop("sparse GEMM", "sparse_gemm/arm_neondot.cc", r"sdot", (A76,)),
)


TILES = tuple((tile, model) for tile in PLAIN_TILES for model in (A72, A53)) + tuple(
    (tile, A76) for tile in DOT_TILES
)


@dataclass(frozen=True)
class Modelled:
    """What llvm-mca says of a loop.

    Attributes:
        instructions: In one round.
        multiplies: Of them.
        cycles: Of one round.
        share: Of them that the multiplications alone would take, were they independent of each other.
        limit: What the share would be if nothing waited for anything but the pipes that it takes.
        rate: Products in a cycle, or values where the loop converts: what a profile's [speed] holds.
    """

    loop: str
    kernel: str
    cpu: str
    model: str
    instructions: int
    multiplies: int
    cycles: float
    share: float
    limit: float
    rate: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def find_mca() -> str:
    """Finds llvm-mca of LLVM 19 or newer: version 14 lets a Neoverse N1 start three operations a cycle.

    Raises:
        MissingToolError: There is none.
    """
    for name in ("llvm-mca-19", "llvm-mca-20", "llvm-mca-21"):
        if path := shutil.which(name):
            return path
    raise MissingToolError("llvm-mca of LLVM 19 or newer is missing (Debian: llvm-19)")


def model_loops() -> list[Modelled]:
    """Models every loop on every CPU that it is meant for.

    Raises:
        MissingToolError: llvm-mca is missing.
    """
    mca = find_mca()
    modelled = []
    for loop in LOOPS:
        body = cut_loop(_OBJECTS / f"{loop.source}.o", loop)
        kernel = Path(loop.source).stem
        for model in loop.models:
            products = sum(map(loop.count_products, body))
            modelled.append(_model(mca, loop.name, kernel, loop.multiply, body, products, model))
    paths = {tile: _without_branches(trace_tile(tile)) for tile, _ in TILES}
    for tile, model in TILES:
        sums = [text for text in paths[tile] if not _EPILOGUE.match(text.split(" ", 1)[0])]
        modelled.append(_model_tile(mca, tile, tile.name, paths[tile], model))
        modelled.append(_model_tile(mca, tile, f"{tile.name} sums", sums, model))
    return modelled


def cut_loop(path: Path, loop: Loop) -> list[str]:
    """Returns the instructions of the innermost loop that has the most multiplications, of equals the shortest."""
    done = subprocess.run(
        ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    loops: list[list[str]] = []
    # Functions have sections of their own, in which addresses begin at 0 again.
    for section in done.stdout.split("Disassembly of section")[1:]:
        lines = [
            (int(found[1], 16), found[2], found[3].split("//")[0].strip())
            for found in re.finditer(r"^ +([0-9a-f]+):\t(\S+)[ \t]*(.*)$", section, re.MULTILINE)
        ]
        end = 0
        for address, name, operands in lines:
            target = re.search(r"\b([0-9a-f]+) <", operands)
            if target is None or not _BRANCH.match(name) or not end <= int(target[1], 16) < address:
                continue
            first = int(target[1], 16)
            body = [line for line in lines if first <= line[0] <= address]
            end = address
            loops.append([f"{n} {o}" for _, n, o in body if not _BRANCH.match(n)])
    return max(loops, key=lambda body: (_count(body, loop.multiply), -len(body)))


def _count(stretch: list[str], multiply: str) -> int:
    return sum(re.fullmatch(multiply, text.split(" ", 1)[0]) is not None for text in stretch)


def _without_branches(body: list[str]) -> list[str]:
    return [text for text in body if not _BRANCH.match(text.split(" ", 1)[0])]


def _model_tile(mca: str, tile: Tile, name: str, body: list[str], model: Model) -> Modelled:
    multiplies = [text for text in body if re.fullmatch(tile.multiply, text.split(" ", 1)[0])]
    products = tile.useful * sum(map(_count_products, multiplies))
    return _model(mca, name, tile.isa, tile.multiply, body, products, model)


def _model(
    mca: str,
    name: str,
    kernel: str,
    multiply: str,
    body: list[str],
    products: float,
    model: Model,
) -> Modelled:
    multiplies = [text for text in body if re.fullmatch(multiply, text.split(" ", 1)[0])]
    throughput = r"Block RThroughput:\s+([0-9.]+)"
    alone = _run(mca, multiplies, model, throughput)
    cycles = _run(mca, body, model, r"Total Cycles:\s+(\d+)") / _ITERATIONS
    return Modelled(
        loop=name,
        kernel=kernel,
        cpu=model.board_cpu,
        model=model.mcpu,
        instructions=len(body),
        multiplies=len(multiplies),
        cycles=cycles,
        share=alone / cycles,
        limit=alone / _run(mca, body, model, throughput),
        rate=products / cycles,
    )


def _run(mca: str, body: list[str], model: Model, figure: str) -> float:
    """Returns a figure that llvm-mca prints of a loop."""
    words = [mca, "-mtriple=aarch64", f"-mcpu={model.mcpu}", f"-mattr={model.architecture}"]
    words += [f"-iterations={_ITERATIONS}", "-resource-pressure=false", "-instruction-info=false"]
    done = subprocess.run(
        words, input="\n".join(body) + "\n", capture_output=True, text=True, check=True
    )
    found = re.search(figure, done.stdout)
    assert found is not None, done.stdout
    return float(found[1])
