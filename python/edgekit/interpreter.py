"""Opens TFLite files with whichever interpreter is installed: LiteRT's, or the one of tflite-runtime before it."""

from __future__ import annotations

import importlib.util
import json
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from flatbuffers import encode, number_types
from flatbuffers.table import Table

from edgekit.converters.quiet_delegate import spend_greeting
from edgekit.targets.errors import ModelError, ToolError

LITERT = "ai_edge_litert"
LEGACY = "tflite_runtime"
# Of the block in a file's metadata that says what edgekit knows of it.
METADATA = "edgekit"
_FILE_IDENTIFIER = b"TFL3"

# Fields of tables in TFLite's schema, as offsets in their vtables.
_MODEL_BUFFERS, _MODEL_METADATA = 12, 16
_METADATA_NAME, _METADATA_BUFFER = 4, 6
_BUFFER_DATA = 4


def find_interpreter() -> str:
    """Returns the package whose interpreter is used.

    Raises:
        ToolError: None is installed, or only one that cannot work beside the numpy that is.
    """
    if importlib.util.find_spec(LITERT):
        return LITERT
    if importlib.util.find_spec(LEGACY):
        if int(np.__version__.split(".")[0]) >= 2:
            raise ToolError(
                f"tflite-runtime was built for numpy 1 and fails beside numpy {np.__version__}: install "
                "`pip install 'edgekit[tflite-legacy]'`, which brings numpy 1, or 'edgekit[tflite]' in its place"
            )
        return LEGACY
    raise ToolError(
        "a TFLite file needs LiteRT's interpreter: install it with `pip install 'edgekit[tflite]'`"
    )


def open_interpreter(path: Path, threads: int, *, reference: bool = False) -> Any:
    """Returns an interpreter of ``path`` with its tensors allocated.

    Args:
        path: A ``.tflite`` file.
        threads: Threads that one run may use.
        reference: Whether TensorFlow Lite's plain kernels compute, not XNNPACK's.

    Raises:
        ModelError: The file is damaged, or holds what the interpreter lacks.
        ToolError: No interpreter is installed.
    """
    data = path.read_bytes()
    if data[4:8] != _FILE_IDENTIFIER:
        raise ModelError(
            f"{path}: not a TFLite file: it lacks the mark {_FILE_IDENTIFIER.decode()}"
        )
    package = importlib.import_module(f"{find_interpreter()}.interpreter")
    spend_greeting(package)
    options = {}
    if reference:
        options["experimental_op_resolver_type"] = package.OpResolverType.BUILTIN_REF
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            interpreter = package.Interpreter(str(path), num_threads=threads, **options)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: the interpreter cannot load it: {error}") from error
    return interpreter


def list_delegated(interpreter: Any) -> tuple[int, list[str]]:
    """Returns how many operators the delegates of an interpreter compute, and the kinds of the others.

    An interpreter lists an operator for each delegate beside those that it stands for: all that lie between its inputs
    and its outputs.
    """
    operators = interpreter._get_ops_details()
    own = [operator for operator in operators if operator["op_name"] != "DELEGATE"]
    makers = {int(index): place for place, op in enumerate(own) for index in op["outputs"]}
    inside: set[int] = set()
    for delegate in operators:
        if delegate["op_name"] != "DELEGATE":
            continue
        border = {int(index) for index in delegate["inputs"]}
        waiting = [int(index) for index in delegate["outputs"]]
        while waiting:
            index = waiting.pop()
            place = makers.get(index)
            if place is None or index in border or place in inside:
                continue
            inside.add(place)
            waiting.extend(int(source) for source in own[place]["inputs"])
    left = [operator["op_name"] for place, operator in enumerate(own) if place not in inside]
    return len(inside), left


def read_facts(path: Path) -> dict[str, Any]:
    """Returns what edgekit wrote of a file into its metadata; nothing for the files of others.

    Raises:
        ModelError: The file is damaged.
    """
    try:
        return _read_facts(path.read_bytes())
    except (ValueError, IndexError, TypeError, OverflowError, struct.error) as error:
        raise ModelError(f"{path}: its metadata is damaged: {error}") from error


def _read_facts(data: bytes) -> dict[str, Any]:
    root = Table(data, encode.Get(number_types.UOffsetTFlags.packer_type, data, 0))
    buffers = _tables(root, _MODEL_BUFFERS)
    for entry in _tables(root, _MODEL_METADATA):
        name = entry.Offset(_METADATA_NAME)
        if not name or entry.String(entry.Pos + name) != METADATA.encode():
            continue
        place = entry.Offset(_METADATA_BUFFER)
        number = entry.Get(number_types.Uint32Flags, entry.Pos + place) if place else 0
        field = buffers[number].Offset(_BUFFER_DATA)
        start, size = buffers[number].Vector(field), buffers[number].VectorLen(field)
        facts = json.loads(data[start : start + size])
        if not isinstance(facts, dict):
            raise ValueError("not a table")
        return facts
    return {}


def _tables(table: Table, field: int) -> list[Table]:
    """Returns the tables of a vector in ``table``."""
    offset = table.Offset(field)
    if not offset:
        return []
    start, count = table.Vector(offset), table.VectorLen(offset)
    return [Table(table.Bytes, table.Indirect(start + 4 * index)) for index in range(count)]
