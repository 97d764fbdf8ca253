"""What the sparse layers of a plan leave out, read from the file: blocks, density, and what the table says of it."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import _native
from edgekit._schema import plan_generated as schema
from edgekit.converters.prune.break_even import BreakEven, Shape, find_break_even
from edgekit.converters.prune.pattern import Blocks

_HEADER = struct.Struct("<4Q")
_GRAPH_AT = 24
_COUNT = struct.Struct("<I")


@dataclass(frozen=True)
class SparseWork:
    """A layer whose kernel leaves out blocks of zeros.

    Attributes:
        op: Its name.
        block: What the kernel takes or leaves.
        shape: Of its product.
        density: The share of blocks that is stored.
        row: What the table says of such a layer, None where it says nothing.
    """

    op: str
    block: Blocks
    shape: Shape
    density: float
    row: BreakEven | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the facts in a form that JSON can hold, shares in per cent."""
        facts: dict[str, Any] = {
            "block": str(self.block),
            "density": f"{self.density:.1%}",
        }
        if self.row is not None:
            facts["break_even"] = f"{self.row.density:.1%}"
            facts["faster"] = f"{self.row.speedup(self.density):.2f} times"
            facts["by"] = self.row.source
        return facts


def find_sparse_work(path: Path) -> dict[str, SparseWork]:
    """Returns the sparse layers of a plan's first size, by their names.

    Raises:
        PlanError: The file is no plan, or a damaged one.
    """
    # Everything is checked there, so that the file can be believed here.
    isa = _native.Plan.open(path).isa
    kernels = {kernel.name: kernel for kernel in _native.sparse_gemm_kernels()}
    content = path.read_bytes()
    graph_at, _, constants_at, _ = _HEADER.unpack_from(content, _GRAPH_AT)
    graph: Any = schema.PlanT.InitFromObj(schema.Plan.GetRootAs(content, graph_at))
    found = {}
    for op in graph.ops:
        kernel = kernels.get(_decode(getattr(op.params, "kernel", None)))
        if kernel is None:
            continue
        work = _read(op, kernel, graph.tensors, content, constants_at, isa)
        found[work.op] = work
    return found


def _read(
    op: Any, kernel: _native.KernelInfo, tensors: list[Any], content: bytes, start: int, isa: str
) -> SparseWork:
    params = op.params
    output = [int(size) for size in tensors[params.output].shape]
    channels = int(tensors[params.input].shape[-1])
    taps = int(getattr(params, "kernelH", 1)) * int(getattr(params, "kernelW", 1))
    # Of a patch all taps are one.
    lists = 1 if getattr(params, "patches", False) else taps
    steps = -(-(taps * channels // lists) // kernel.kr)
    panels = -(-output[-1] // kernel.nr)
    place = start + int(params.weights.offset) + _COUNT.size * panels * lists
    (blocks,) = _COUNT.unpack_from(content, place)
    shape = Shape(math.prod(output[:-1]), taps * channels, output[-1])
    block = Blocks(kernel.nr, kernel.kr)
    return SparseWork(
        _decode(op.name),
        block,
        shape,
        blocks / (panels * lists * steps),
        find_break_even(isa, block, shape),
    )


def _decode(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
