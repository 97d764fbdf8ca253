"""Forges plans: unpacks one, changes fields as a liar would, and packs it with a right checksum.

What comes out passes every test of a file's soundness; only what the loader and the operators themselves check stands
between it and memory that is not theirs.
"""

from __future__ import annotations

import copy
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import flatbuffers

from edgekit import _native
from edgekit._schema import plan_generated as schema
from edgekit.converters.write_plan import make_file

_NUMBERS = (
    *(0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 63, 64, 65, 127, 128, 255, 256, 1000, 4096, 65535, 65536),
    *(-1, -2, -127, -128, -129, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, 1 << 46),
    *(1 << 62, (1 << 63) - 1, -(1 << 31), -(1 << 63)),
)  # fmt: skip
_REALS = (0.0, -0.0, 1.0, -1.0, 1e-40, 1e38, -1e38, 1e-6, float("inf"), float("-inf"), float("nan"))
# A forgery may read back as what cannot be packed again, whatever is changed.
_TRIES = 200
# How often a part of the graph is picked, where not once.
_PARTS = {"tensors": 16, "ops": 40, "strips": 8, "metadata": 0}


@dataclass
class Slot:
    """A field of the graph: an attribute of a table, or an element of a vector."""

    owner: Any
    key: Any

    @property
    def value(self) -> Any:
        """What the field holds."""
        return (
            self.owner[self.key] if isinstance(self.owner, list) else getattr(self.owner, self.key)
        )

    @value.setter
    def value(self, value: Any) -> None:
        if isinstance(self.owner, list):
            self.owner[self.key] = value
        else:
            setattr(self.owner, self.key, value)


def find_slots(owner: Any) -> Iterator[Slot]:
    """Yields every field of a table or vector, and of what lies in it; numpy's vectors become lists."""
    keys = list(range(len(owner))) if isinstance(owner, list) else list(vars(owner))
    for key in keys:
        slot = Slot(owner, key)
        if hasattr(slot.value, "tolist"):
            slot.value = slot.value.tolist()
        yield slot
        if isinstance(slot.value, list) or hasattr(slot.value, "__dict__"):
            yield from find_slots(slot.value)


class UnforgeableError(Exception):
    """A plan of which no forgery can be packed."""


class Forger:
    """Makes forgeries of one plan.

    Attributes:
        plan: The file.
    """

    def __init__(self, plan: bytes) -> None:
        self.plan = plan
        offset, size, constants, length = struct.unpack_from("<4Q", plan, 24)
        self._graph = plan[offset : offset + size]
        self._constants = plan[constants : constants + length]
        self._kernels = kernel_names()
        self._isas = [info.name for info in _native.isas()]

    def forge(self, source: random.Random) -> bytes:
        """Returns the plan with one to four fields changed.

        Raises:
            UnforgeableError: Nothing that was tried could be packed, as when the plan is a forgery that reads
                back as what Python refuses to write.
        """
        for _ in range(_TRIES):
            try:
                forged = self._try(source)
            except (
                TypeError,
                ValueError,
                AttributeError,
                RuntimeError,
                OverflowError,
                struct.error,
            ):
                # Python knows better than to write that number, or nothing, in that place.
                continue
            if forged != self.plan:
                return forged
        raise UnforgeableError(f"none of {_TRIES} changed plans could be packed")

    def unpack(self) -> Any:
        """Returns the plan's graph, unpacked."""
        return schema.PlanT.InitFromPackedBuf(self._graph, 0)

    def _try(self, source: random.Random) -> bytes:
        graph = self.unpack()
        constants = self._constants
        for _ in find_slots(graph):
            pass
        for _ in range(source.choice((1, 1, 1, 2, 2, 3, 4))):
            if source.random() < 0.08 and constants:
                constants = _change_constants(constants, source)
            else:
                self._change(graph, source)
        builder = flatbuffers.Builder(len(self._graph) + 1024)
        builder.Finish(graph.Pack(builder), file_identifier=b"EKPL")
        return make_file(bytes(builder.Output()), constants)

    def _change(self, graph: Any, source: random.Random) -> None:
        if source.random() < 0.12:
            return _rename_size(graph, source)
        parts = list(vars(graph))
        part = source.choices(parts, [_PARTS.get(part, 1) for part in parts])[0]
        root = Slot(graph, part)
        slots = [root]
        if isinstance(root.value, list):
            if not root.value or source.random() < 0.08:
                return self._change_slot(root, graph, source)
            # One entry, not one field: an op has more fields than a tensor.
            entry = Slot(root.value, source.randrange(len(root.value)))
            slots = [entry]
            if hasattr(entry.value, "__dict__"):
                slots += find_slots(entry.value)
        return self._change_slot(source.choice(slots), graph, source)

    def _change_slot(self, slot: Slot, graph: Any, source: random.Random) -> None:
        value = slot.value
        if isinstance(value, bool):
            slot.value = not value
        elif isinstance(value, int):
            slot.value = _other_number(slot, value, graph, source)
        elif isinstance(value, float):
            slot.value = source.choice((*_REALS, value * 2, value / 2, -value, value * 1e4))
        elif isinstance(value, bytes | str):
            slot.value = self._other_text(slot.key, value, source)
        elif isinstance(value, list):
            _change_list(value, source)
        elif value is None or hasattr(value, "__dict__"):
            same = [other.value for other in _alike(slot, graph)]
            slot.value = copy.deepcopy(source.choice([None, *same, *same]))

    def _other_text(self, key: Any, value: bytes | str, source: random.Random) -> bytes | str:
        if key == "kernel":
            return source.choice(self._kernels)
        if key == "isa":
            return source.choice(self._isas)
        return source.choice((value, "", "\0", "x" * 300))


def kernel_names() -> list[str]:
    """Returns the names of kernels of every kind."""
    lists = (
        _native.gemm_kernels(),
        _native.sparse_gemm_kernels(),
        _native.depthwise_kernels(),
        _native.shallow_kernels(),
    )
    names = [kernel.name for kernels in lists for kernel in kernels]
    for info in _native.isas():
        names += [_native.select_float_gemm(info.name), _native.select_float_depthwise(info.name)]
    return names


def _alike(slot: Slot, graph: Any) -> list[Slot]:
    """Returns fields of the same name elsewhere, or entries of the same vector, that hold something."""
    if isinstance(slot.owner, list):
        return [Slot(slot.owner, index) for index in range(len(slot.owner))]
    found = [other for other in find_slots(graph) if other.key == slot.key]
    return [other for other in found if other.value is not None]


def _other_number(slot: Slot, value: int, graph: Any, source: random.Random) -> int:
    kind = source.random()
    if kind < 0.3:
        return value + source.choice((-64, -3, -2, -1, 1, 2, 3, 64))
    if kind < 0.4:
        return source.choice((value * 2, value // 2, -value, value * 64))
    if kind < 0.7:
        others = [other.value for other in _alike(slot, graph)]
        return source.choice([other for other in others if isinstance(other, int)] or [value])
    return source.choice(_NUMBERS)


def _change_list(values: list[Any], source: random.Random) -> None:
    kind = source.randrange(4)
    if not values:
        values.append(source.choice(_NUMBERS))
    elif kind == 0:
        del values[source.randrange(len(values))]
    elif kind == 1:
        values.insert(source.randrange(len(values) + 1), copy.deepcopy(source.choice(values)))
    elif kind == 2:
        a, b = source.randrange(len(values)), source.randrange(len(values))
        values[a], values[b] = values[b], values[a]
    else:
        values[source.randrange(len(values))] = copy.deepcopy(source.choice(values))


def _rename_size(graph: Any, source: random.Random) -> None:
    """Gives every dimension of one size another one: what is checked pair by pair still fits."""
    dims = [size for tensor in graph.tensors for size in tensor.shape]
    old = source.choice(dims or [1])
    new = max(1, source.choice((old - 1, old + 1, 2 * old, old // 2, 1, 65)))
    for tensor in graph.tensors:
        tensor.shape = [new if size == old else size for size in tensor.shape]


def _change_constants(constants: bytes, source: random.Random) -> bytes:
    """Overwrites an int32 of the constants: tables, and the places that a resize reads, lie there."""
    changed = bytearray(constants)
    at = source.randrange(0, len(changed) // 4) * 4 if len(changed) >= 8 else 0
    word = source.choice(
        (-1, 0, 1, 255, 256, 1 << 16, (1 << 31) - 1, -(1 << 31), 0x7F800000, 0x7FC00000)
    )
    changed[at : at + 4] = struct.pack("<i", word)[: len(changed) - at]
    return bytes(changed)
