"""Writes a lowered program as a plan: packed for one instruction set, its memory laid out.

docs/plan-format.md describes the file; csrc/runtime/plan.fbs its graph.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers

from edgekit import __version__, _native
from edgekit._schema import plan_generated as schema
from edgekit.converters.layouts import Layout
from edgekit.converters.memory import ALIGNMENT, plan_memory
from edgekit.converters.parts import Part
from edgekit.converters.program import DType, Program, Tensor
from edgekit.converters.strips import choose_strips
from edgekit.converters.write_plan.constants import ConstantsSection
from edgekit.converters.write_plan.ops import OpPacker
from edgekit.targets.errors import TargetError

MAGIC = b"EDGEKIT\n"
FORMAT_VERSION = 2
HEADER_SIZE = 64
_FILE_IDENTIFIER = b"EKPL"
_DTYPES = {
    DType.CODE: schema.DType.Code,
    DType.FLOAT32: schema.DType.Float32,
    DType.INT32: schema.DType.Int32,
    DType.INT64: schema.DType.Int64,
    DType.UINT8: schema.DType.UInt8,
    DType.BOOL: schema.DType.Bool,
}


@dataclass(frozen=True)
class PlannedOp:
    """An operator of a plan: its name, its table in plan.fbs, and its kernel or ''."""

    name: str
    kind: str
    kernel: str


@dataclass(frozen=True)
class PlanSummary:
    """What was written.

    Attributes:
        path: The file.
        file_size: Bytes.
        constants_size: Bytes of packed weights, biases, multipliers and tables, of all sizes.
        shared_size: Those of the first size; what is beyond them other sizes alone need.
        arena_size: Bytes that a session needs for activations, of the size that needs most.
        arena_lower_bound: The most bytes alive at once in that size; no layout can be smaller.
        ops: In order of execution, of the first size.
    """

    path: Path
    file_size: int
    constants_size: int
    shared_size: int
    arena_size: int
    arena_lower_bound: int
    ops: tuple[PlannedOp, ...]

    @property
    def kernels(self) -> dict[str, str]:
        """The kernel of each operator that has one, by the operator's name."""
        return {op.name: op.kernel for op in self.ops if op.kernel}


def write_plan(
    program: Program,
    path: str | Path,
    *,
    isa: str,
    target: str,
    source_digest: str,
    metadata: Mapping[str, str] | None = None,
    cache_bytes: int | None = None,
    cores: Sequence[int] = (),
    layouts: Mapping[str, Layout] | None = None,
    sizes: Sequence[Program] = (),
) -> PlanSummary:
    """Packs ``program`` for an instruction set and writes it. The same arguments give the same bytes.

    Args:
        program: The lowered network.
        path: The file.
        isa: A token of csrc/isa/isa.inc; its kernels need not run on this machine.
        target: The board's profile.
        source_digest: SHA-256 of the source model, in hexadecimal.
        metadata: Further facts to keep in the plan.
        cache_bytes: Level 2 cache of a core; see `choose_strips`. None makes no strips.
        cores: Where threads run, the calling one on the first; empty: anywhere.
        layouts: How the layers that write these tensors are computed, where not by rule: kernels of ``isa``.
        sizes: The same network for inputs of other shapes; what is equal of their constants is written once.

    Raises:
        TargetError: ``isa`` is unknown.
        ModelError: A layer's constants do not fit the storage of ``isa``.
    """
    storages = {info.name: info.storage for info in _native.isas()}
    if isa not in storages:
        raise TargetError(f"instruction set {isa!r} is unknown: edgekit has {', '.join(storages)}")
    section = ConstantsSection()
    facts = _Facts(isa, storages[isa] == "u8", target, source_digest, metadata or {}, tuple(cores))
    plan = _plan(program, facts, section, cache_bytes, layouts)
    shared_size = len(section.content)
    plan.sizes = [_plan(other, facts, section, cache_bytes, layouts) for other in sizes] or None
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(plan.Pack(builder), file_identifier=_FILE_IDENTIFIER)
    data = make_file(bytes(builder.Output()), bytes(section.content))
    path = Path(path)
    path.write_bytes(data)
    planned = tuple(
        PlannedOp(op.name, op.kind, getattr(packed.params, "kernel", ""))
        for op, packed in zip(program.ops, plan.ops, strict=True)
    )
    largest = max([plan, *(plan.sizes or ())], key=lambda size: size.arenaSize)
    return PlanSummary(
        path,
        len(data),
        len(section.content),
        shared_size,
        largest.arenaSize,
        largest.arenaLowerBound,
        planned,
    )


@dataclass(frozen=True)
class _Facts:
    """What all sizes of a plan say."""

    isa: str
    shifted: bool
    target: str
    source_digest: str
    metadata: Mapping[str, str]
    cores: tuple[int, ...]


def _plan(
    program: Program,
    facts: _Facts,
    constants: ConstantsSection,
    cache_bytes: int | None,
    layouts: Mapping[str, Layout] | None,
) -> Any:
    """Returns the table of one size, whose constants are in ``constants``."""
    strips = choose_strips(program, cache_bytes)
    layout = plan_memory(program, strips)
    packer = OpPacker(
        program, facts.isa, shifted=facts.shifted, layouts=layouts, constants=constants
    )
    ops = [packer.pack(op) for op in program.ops]
    offsets = {**layout.offsets, **packer.pack_constants()}
    index = packer.tensor_index
    return schema.PlanT(
        isa=facts.isa,
        storage=schema.Storage.U8 if facts.shifted else schema.Storage.S8,
        target=facts.target,
        sourceDigest=facts.source_digest,
        producer=f"edgekit {__version__}",
        arenaSize=layout.arena_size,
        arenaLowerBound=layout.lower_bound,
        tensors=[
            _tensor(program, tensor, offsets, layout.parts, index)
            for tensor in program.tensors.values()
        ],
        inputs=[index[name] for name in program.inputs],
        outputs=[index[name] for name in program.outputs],
        ops=ops,
        metadata=[
            schema.MetadataT(key=key, value=value)
            for key, value in sorted(facts.metadata.items(), key=lambda item: item[0].encode())
        ],
        strips=[schema.StripsT(chain.first_op, chain.op_count, chain.rows) for chain in strips],
        cores=list(facts.cores),
    )


def make_file(graph: bytes, constants: bytes) -> bytes:
    """Returns a plan's file: the header, the graph behind it, then the constants."""
    constants_offset = -(-(HEADER_SIZE + len(graph)) // ALIGNMENT) * ALIGNMENT
    checked = (
        struct.pack(
            "<6Q",
            constants_offset + len(constants),
            HEADER_SIZE,
            len(graph),
            constants_offset,
            len(constants),
            0,
        )
        + graph.ljust(constants_offset - HEADER_SIZE, b"\0")
        + constants
    )
    return MAGIC + struct.pack("<II", FORMAT_VERSION, _native.crc32c(checked)) + checked


def _tensor(
    program: Program,
    tensor: Tensor,
    offsets: Mapping[str, int],
    parts: Mapping[str, Part],
    index: Mapping[str, int],
) -> schema.TensorT:
    part = parts.get(tensor.name)
    if tensor.name in program.inputs:
        place, offset = schema.Place.Input, program.inputs.index(tensor.name)
    elif tensor.name in program.outputs:
        place, offset = schema.Place.Output, program.outputs.index(tensor.name)
    elif tensor.name in program.constants:
        place, offset = schema.Place.Constant, offsets[tensor.name]
    elif tensor.name not in offsets:
        place, offset = schema.Place.Strips, 0
    else:
        place, offset = schema.Place.Arena, offsets[tensor.name]
    return schema.TensorT(
        name=tensor.name,
        dtype=_DTYPES[tensor.dtype],
        place=place,
        shape=list(tensor.shape),
        offset=offset,
        scale=float(tensor.scale),
        zeroPoint=tensor.zero_point,
        channelsLast=tensor.channels_last,
        parent=0 if part is None else 1 + index[part.parent],
        pixelStride=0 if part is None else part.pixel_stride,
    )
