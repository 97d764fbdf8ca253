"""Writes a lowered program as a plan: packed for one instruction set, its memory laid out.

docs/plan-format.md describes the file; csrc/runtime/plan.fbs its graph.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import flatbuffers

from edgekit import __version__, _native
from edgekit._schema import plan_generated as schema
from edgekit.converters.layouts import Layout
from edgekit.converters.memory import ALIGNMENT, plan_memory
from edgekit.converters.pack_ops import OpPacker
from edgekit.converters.parts import Part
from edgekit.converters.program import DType, Program, Tensor
from edgekit.converters.strips import choose_strips
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
        constants_size: Bytes of packed weights, biases, multipliers and tables.
        arena_size: Bytes that a session needs for activations.
        arena_lower_bound: The most bytes alive at once; no layout can be smaller.
        ops: In order of execution.
    """

    path: Path
    file_size: int
    constants_size: int
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

    Raises:
        TargetError: ``isa`` is unknown.
        ModelError: A layer's constants do not fit the storage of ``isa``.
    """
    storages = {info.name: info.storage for info in _native.isas()}
    if isa not in storages:
        raise TargetError(f"instruction set {isa!r} is unknown: edgekit has {', '.join(storages)}")
    strips = choose_strips(program, cache_bytes)
    layout = plan_memory(program, strips)
    packer = OpPacker(program, isa, shifted=storages[isa] == "u8", layouts=layouts)
    ops = [packer.pack(op) for op in program.ops]
    offsets = {**layout.offsets, **packer.pack_constants()}
    index = packer.tensor_index
    plan = schema.PlanT(
        isa=isa,
        storage=schema.Storage.U8 if storages[isa] == "u8" else schema.Storage.S8,
        target=target,
        sourceDigest=source_digest,
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
            for key, value in sorted((metadata or {}).items(), key=lambda item: item[0].encode())
        ],
        strips=[schema.StripsT(chain.first_op, chain.op_count, chain.rows) for chain in strips],
        cores=list(cores),
    )
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(plan.Pack(builder), file_identifier=_FILE_IDENTIFIER)
    constants = bytes(packer.constants)
    data = make_file(bytes(builder.Output()), constants)
    path = Path(path)
    path.write_bytes(data)
    planned = tuple(
        PlannedOp(op.name, op.kind, getattr(packed.params, "kernel", ""))
        for op, packed in zip(program.ops, ops, strict=True)
    )
    return PlanSummary(
        path, len(data), len(constants), layout.arena_size, layout.lower_bound, planned
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
