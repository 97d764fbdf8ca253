"""Frames of docs/serving.md: headers, payloads, and what HELLO says, each checked before it is used."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.targets.errors import RemoteError

MAGIC = b"EKSV"
VERSION = 1
MOST_HELLO = 1 << 20
MOST_ERROR = 1 << 12
# Of a payload, as in csrc/runner/serve.cc.
MOST_PAYLOAD = 1 << 30
# Of HELLO: a SHA-256 in hexadecimal, then the most bytes of a request's payload and of its result's.
_PREFIX = struct.Struct("<64sII")
MOST_HELLOS = 8
DTYPES = ("float32", "int8", "uint8", "int32", "int64", "bool", "float64", "float16")
_DIGEST = re.compile("[0-9a-f]{64}")
_HEADER = struct.Struct("<4sBBHII")
_MOST_RANK = 8
HEADER_SIZE = _HEADER.size


class FrameKind(IntEnum):
    """What a frame is for."""

    HELLO = 1
    RUN = 2
    RESULT = 3
    ERROR = 4


class FrameError(IntEnum):
    """Why a request got no result."""

    MALFORMED = 1
    BUSY = 2
    TOO_SLOW = 3
    STOPPING = 4
    NEXT = 5
    NETWORK = 6


@dataclass(frozen=True)
class FrameHeader:
    """The header of a frame.

    Attributes:
        kind: A `FrameKind`, or any other number.
        length: Bytes of the payload.
        size: Which of the network's sizes; of a HELLO, how many others follow.
        request: The client's own number of a request.
    """

    kind: int
    length: int
    size: int = 0
    request: int = 0

    def pack(self) -> bytes:
        """Returns its 16 bytes."""
        return _HEADER.pack(MAGIC, VERSION, self.kind, self.size, self.request, self.length)

    @classmethod
    def unpack(cls, data: bytes) -> FrameHeader:
        """Reads 16 bytes.

        Raises:
            RemoteError: They are no header of this version.
        """
        magic, version, kind, size, request, length = _HEADER.unpack(data)
        if magic != MAGIC:
            raise RemoteError("what answers there does not speak edgekit's protocol")
        if version != VERSION:
            raise RemoteError(f"speaks version {version} of the protocol, not {VERSION}")
        return cls(kind, length, size, request)


@dataclass(frozen=True)
class TensorSpec:
    """An input or output as HELLO describes it.

    Attributes:
        name: Unique among inputs, and among outputs.
        dtype: numpy's name, of `DTYPES`.
        shape: Of one run.
        scale: Of codes: a real value is ``scale * (code - zero_point)``; None for other numbers.
        zero_point: Of codes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float | None = None
    zero_point: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def to_dict(self) -> dict[str, Any]:
        """Returns it as HELLO's JSON has it."""
        row: dict[str, Any] = {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}
        if self.scale is not None:
            row |= {"scale": self.scale, "zero_point": self.zero_point}
        return row


@dataclass(frozen=True)
class SizeSpec:
    """Inputs and outputs of one size of a network."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Hello:
    """What a server says of the network that it serves.

    Attributes:
        digest: SHA-256 of the network's file, in hexadecimal.
        sizes: At least one; all have the same names and dtypes.
        states: By input, the output of one run that the next takes in its place.
        facts: Version, instruction set and target, as told.
    """

    digest: str
    sizes: tuple[SizeSpec, ...]
    states: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    def pack(self) -> bytes:
        """Returns the payload."""
        text = json.dumps(
            {
                **self.facts,
                "sizes": [
                    {
                        "inputs": [spec.to_dict() for spec in size.inputs],
                        "outputs": [spec.to_dict() for spec in size.outputs],
                    }
                    for size in self.sizes
                ],
                "states": dict(self.states),
            }
        )
        request = max(payload_size(size.inputs) for size in self.sizes)
        result = max(payload_size(size.outputs) for size in self.sizes)
        return _PREFIX.pack(self.digest.encode(), request, result) + text.encode()

    @classmethod
    def unpack(cls, payload: bytes) -> Hello:
        """Reads a payload and checks all of it.

        Raises:
            RemoteError: It describes no network.
        """
        if len(payload) < _PREFIX.size:
            raise RemoteError("its HELLO is cut off")
        digest = payload[:64].decode("latin-1")
        if _DIGEST.fullmatch(digest) is None:
            raise RemoteError("its HELLO describes no network: it names no digest")
        try:
            said = json.loads(payload[_PREFIX.size :].decode())
            sizes = tuple(
                SizeSpec(_read_specs(size["inputs"]), _read_specs(size["outputs"]))
                for size in said["sizes"]
            )
            states = {str(key): str(value) for key, value in said["states"].items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise RemoteError(f"its HELLO describes no network: {error}") from error
        hello = cls(
            digest,
            sizes,
            states,
            {key: str(said[key]) for key in ("version", "isa", "target") if key in said},
        )
        hello._check()
        return hello

    def _check(self) -> None:
        if not self.sizes or not self.sizes[0].inputs or not self.sizes[0].outputs:
            raise RemoteError("its HELLO describes no network: nothing goes in or comes out")
        first = self.sizes[0]
        for size in self.sizes:
            for specs, wanted in ((size.inputs, first.inputs), (size.outputs, first.outputs)):
                if [(spec.name, spec.dtype) for spec in specs] != [
                    (spec.name, spec.dtype) for spec in wanted
                ] or len({spec.name for spec in specs}) != len(specs):
                    raise RemoteError("its HELLO describes no network: names or types differ")
                if payload_size(specs) > MOST_PAYLOAD:
                    raise RemoteError("its HELLO describes tensors of more than a gigabyte")
        for taken, given in self.states.items():
            pairs = [
                ([one for one in size.inputs if one.name == taken], size.outputs)
                for size in self.sizes
            ]
            if not all(
                ins and any(out.name == given and out.shape == ins[0].shape for out in outs)
                for ins, outs in pairs
            ):
                raise RemoteError(f"its HELLO names a state '{taken}' that there is not")


def _read_specs(rows: Any) -> tuple[TensorSpec, ...]:
    return tuple(_read_spec(row) for row in rows)


def _read_spec(row: Any) -> TensorSpec:
    name, dtype, shape = row["name"], row["dtype"], tuple(row["shape"])
    if not isinstance(name, str) or dtype not in DTYPES or len(shape) > _MOST_RANK:
        raise ValueError(f"{row} is no tensor")
    # Small enough that a product of eight stays a number that Python handles at once.
    if not all(type(dim) is int and 0 < dim <= MOST_PAYLOAD for dim in shape):
        raise ValueError(f"{shape} is no shape")
    scale, zero_point = row.get("scale"), row.get("zero_point")
    if scale is not None:
        scale = float(scale)
        if not (math.isfinite(scale) and scale > 0) or type(zero_point) is not int:
            raise ValueError(f"{row} has no grid")
    return TensorSpec(name, dtype, shape, scale, zero_point)


def payload_size(specs: Sequence[TensorSpec]) -> int:
    """Returns the bytes of a payload that holds these tensors, each filled up to a multiple of 8.

    >>> payload_size([TensorSpec("x", "int8", (1, 3)), TensorSpec("y", "float32", (2,))])
    16
    """
    return sum((spec.nbytes + 7) // 8 * 8 for spec in specs)


def pack_tensors(specs: Sequence[TensorSpec], arrays: Sequence[npt.NDArray[Any]]) -> bytes:
    """Returns the payload of arrays that have the specs' dtypes and shapes."""
    parts = []
    for spec, array in zip(specs, arrays, strict=True):
        parts.append(np.ascontiguousarray(array).tobytes())
        parts.append(bytes(-spec.nbytes % 8))
    return b"".join(parts)


def unpack_tensors(specs: Sequence[TensorSpec], payload: bytes) -> list[npt.NDArray[Any]]:
    """Returns the arrays of a payload of ``payload_size(specs)`` bytes; they can be written to."""
    arrays = []
    offset = 0
    for spec in specs:
        data = payload[offset : offset + spec.nbytes]
        if spec.dtype == "bool":
            # Any byte but 0 is true; numpy would take others for what they are not.
            array: npt.NDArray[Any] = np.frombuffer(data, np.uint8) != 0
        else:
            array = np.frombuffer(data, np.dtype(spec.dtype)).copy()
        arrays.append(array.reshape(spec.shape))
        offset += (spec.nbytes + 7) // 8 * 8
    return arrays
