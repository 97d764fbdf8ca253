"""Follows depthwise kernels in emulation and cuts out the tile that they run most.

A compiler lays a tile out in pieces, with paths between them that are rarely taken, so that what lies between a branch
and where it goes is not what runs. The program counter's trace is: of the rounds of all loops, the tile is the one that
visits no instruction twice and that multiplies most, all its repetitions together.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from counting import CROSS, MissingToolError, find_emulator

_PROGRAM = CROSS / "benchmarks" / "arm" / "edgekit_call_kernel"
_SHAPE = "8x28x240"


@dataclass(frozen=True)
class Tile:
    """A tile of a depthwise kernel.

    Attributes:
        isa: The kernel's instruction set.
        cpu: What qemu takes as `-cpu`.
        size: Rows and columns of the window.
        stride: Pixels between windows.
        function: A part of the mangled name of the function that holds the tile.
        multiply: The names of its multiplications.
        useful: The share of products that are not by weights of zero behind the window's edge.
    """

    isa: str
    cpu: str
    size: int
    stride: int
    function: str
    multiply: str
    useful: float

    @property
    def name(self) -> str:
        return f"depthwise {self.size}x{self.size}/{self.stride}"


def _plain(size: int, stride: int) -> Tile:
    function = f"run_blockILm{size}ELm{stride}E"
    return Tile("arm_neon", "cortex-a72", size, stride, function, r"smull2?|smlal2?", 1.0)


def _dot(size: int, stride: int) -> Tile:
    function = f"run_cell_rowsILm{size}ELm{stride}ELm{3 - stride}E"
    cells = (size + 1) // 2
    return Tile(
        "arm_neondot", "cortex-a76", size, stride, function, "sdot", (size / 2 / cells) ** 2
    )


PLAIN_TILES = tuple(_plain(size, stride) for size in (3, 5) for stride in (1, 2))
DOT_TILES = tuple(_dot(size, stride) for size in (3, 5) for stride in (1, 2))


def trace_tile(tile: Tile) -> list[str]:
    """Returns the instructions of one round, in the order in which they run.

    Raises:
        MissingToolError: There is no emulator, or nothing to run in it.
    """
    if not _PROGRAM.exists():
        raise MissingToolError(f"{_PROGRAM} was not built")
    first, size = _find_function(tile.function)
    texts = _disassemble(first, size)
    counters = _trace(tile, first, size)
    rounds = _count_rounds(counters)

    def multiplications(path: Sequence[int]) -> int:
        return sum(
            re.fullmatch(tile.multiply, texts[counter].split(" ", 1)[0]) is not None
            for counter in path
        )

    best = max(rounds, key=lambda path: (rounds[path] * multiplications(path), -len(path)))
    return [texts[counter] for counter in best]


def _find_function(part: str) -> tuple[int, int]:
    """Returns where a function begins, and its bytes."""
    printed = _run(["aarch64-linux-gnu-nm", "-S", str(_PROGRAM)])
    found = re.search(rf"^([0-9a-f]+) ([0-9a-f]+) \S \S*{part}", printed, re.MULTILINE)
    assert found is not None, part
    return int(found[1], 16), int(found[2], 16)


def _disassemble(first: int, size: int) -> dict[int, str]:
    printed = _run(
        [
            "aarch64-linux-gnu-objdump",
            "-d",
            "--no-show-raw-insn",
            f"--start-address={first}",
            f"--stop-address={first + size}",
            str(_PROGRAM),
        ]
    )
    return {
        int(found[1], 16): f"{found[2]} {found[3].split('//')[0].strip()}"
        for found in re.finditer(r"^ +([0-9a-f]+):\t(\S+)[ \t]*(.*)$", printed, re.MULTILINE)
    }


def _trace(tile: Tile, first: int, size: int) -> list[int]:
    """Returns the addresses that one call of the kernel visits in its function."""
    with tempfile.NamedTemporaryFile(mode="r") as log:
        words = [find_emulator(), "-cpu", tile.cpu, "-singlestep", "-d", "exec,nochain"]
        words += ["-dfilter", f"{first:#x}+{size:#x}", "-D", log.name, str(_PROGRAM), tile.isa]
        _run([*words, "depthwise", _SHAPE, str(tile.size), str(tile.stride), "1"])
        return [int(found[1], 16) for found in re.finditer(r"/([0-9a-f]{16})/", log.read())]


def _count_rounds(counters: Sequence[int]) -> Counter[tuple[int, ...]]:
    """Counts what runs between two visits of where a jump backwards leads, without loops inside."""
    visits: dict[int, list[int]] = defaultdict(list)
    for i in range(1, len(counters)):
        if counters[i] <= counters[i - 1]:
            visits[counters[i]].append(i)
    rounds: Counter[tuple[int, ...]] = Counter()
    for places in visits.values():
        for begin, end in pairwise(places):
            path = tuple(counters[begin:end])
            if len(set(path)) == len(path):
                rounds[path] += 1
    return rounds


def _run(words: Sequence[str]) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout
