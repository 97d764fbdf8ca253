"""Spends the line that TensorFlow Lite writes to the error stream when it first makes its XNNPACK delegate.

The line ("INFO: Created TensorFlow Lite XNNPACK delegate for CPU.") comes once in a process, and no setting keeps it
back. It is spent here on a network of one operator that is known to be sound, so that the error stream is never covered
while a user's file is opened.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from types import ModuleType

from flatbuffers import Builder

_IDENTIFIER = b"TFL3"
_SCHEMA_VERSION = 3
# What XNNPACK takes in any version, of one number.
_ABS = 101


@functools.cache
def spend_greeting(package: ModuleType) -> None:
    """Makes the delegate of ``package`` once, with the process's error stream covered meanwhile.

    Args:
        package: The module with the class ``Interpreter``.
    """
    try:
        kept = os.dup(2)
    except OSError:
        return  # There is no error stream.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        package.Interpreter(model_content=_make_network()).allocate_tensors()
    except (ValueError, RuntimeError):
        pass  # What is wrong with the interpreter, the user's own file will tell.
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _make_network() -> bytes:
    """Returns a TFLite file: the absolute value of one float32. Fields are numbered as in the schema's tables."""
    builder = Builder(256)
    code = _table(builder, {}, {3: _ABS})
    tensors = [_table(builder, {0: _numbers(builder, [1])}, {}) for _ in range(2)]
    ends = {1: _numbers(builder, [0]), 2: _numbers(builder, [1])}
    operators = _offsets(builder, [_table(builder, ends, {})])
    graph = _table(builder, {0: _offsets(builder, tensors), **ends, 3: operators}, {})
    parts = {
        1: _offsets(builder, [code]),
        2: _offsets(builder, [graph]),
        4: _offsets(builder, [_table(builder, {}, {})]),
    }
    builder.Finish(_table(builder, parts, {0: _SCHEMA_VERSION}), _IDENTIFIER)
    return bytes(builder.Output())


def _table(builder: Builder, offsets: Mapping[int, int], numbers: Mapping[int, int]) -> int:
    """Returns a table with these fields: what was built before, and numbers of 32 bits."""
    builder.StartObject(5)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, number in numbers.items():
        builder.PrependInt32Slot(slot, number, 0)
    return int(builder.EndObject())


def _numbers(builder: Builder, numbers: Sequence[int]) -> int:
    builder.StartVector(4, len(numbers), 4)
    for number in reversed(numbers):
        builder.PrependInt32(number)
    return int(builder.EndVector())


def _offsets(builder: Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
