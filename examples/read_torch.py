"""Reads the tensors of a PyTorch checkpoint without PyTorch and without running what a pickle asks for.

Understands the format that ``torch.save`` wrote before version 1.6: four pickles (magic number, protocol,
machine, state dict), the list of storage keys, and then for each storage its length and its numbers.
"""

from __future__ import annotations

import collections
import pickle
import struct
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


class _Storage:
    """A flat run of numbers, filled in after the pickles have been read."""

    def __init__(self, dtype: str, length: int) -> None:
        self.dtype = dtype
        self.length = length
        self.values: npt.NDArray[Any] | None = None


class _Tensor:
    """A strided view of a storage."""

    def __init__(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> None:
        self.storage = storage
        self.offset = offset
        self.shape = shape
        self.strides = strides

    def to_array(self) -> npt.NDArray[Any]:
        if self.storage.values is None:
            raise ValueError("a tensor refers to a storage that the file does not hold")
        values = self.storage.values[self.offset :]
        span = sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)) + 1
        if min((*self.shape, 1)) < 1 or min((*self.strides, 0)) < 0 or span > len(values):
            raise ValueError("a tensor reaches beyond its storage")
        strides = tuple(s * values.itemsize for s in self.strides)
        return np.lib.stride_tricks.as_strided(values, self.shape, strides).copy()


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


class _Unpickler(pickle.Unpickler):
    """Knows the four names that a state dict needs and refuses every other."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _DTYPES:
            return name
        raise pickle.UnpicklingError(
            f"the checkpoint asks for {module}.{name}: not a plain state dict"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key, _device, length, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"a storage of an unknown kind: {kind}")
        return self.storages.setdefault(key, _Storage(_DTYPES[storage_type], length))


def read_state_dict(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Returns the tensors of a checkpoint by name, C-contiguous.

    Raises:
        pickle.UnpicklingError: The file is not in this format or holds more than tensors.
        ValueError: The file is cut short or a tensor lies outside its storage.
    """
    with path.open("rb") as file:
        magic, protocol = (_Unpickler(file).load() for _ in range(2))
        if magic != _MAGIC or protocol != _PROTOCOL:
            raise pickle.UnpicklingError(f"{path} is not a checkpoint of the legacy format")
        machine = _Unpickler(file).load()
        if not machine["little_endian"]:
            raise ValueError(f"{path} was written by a big-endian machine")
        unpickler = _Unpickler(file)
        tensors = unpickler.load()
        for key in _Unpickler(file).load():
            storage = unpickler.storages[key]
            (length,) = struct.unpack("<q", file.read(8))
            data = file.read(length * np.dtype(storage.dtype).itemsize)
            if length != storage.length or len(data) != length * np.dtype(storage.dtype).itemsize:
                raise ValueError(f"{path} is cut short")
            storage.values = np.frombuffer(data, storage.dtype)
    return {name: tensor.to_array() for name, tensor in tensors.items()}
