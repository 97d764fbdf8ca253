"""The constants section of a plan: every blob once, however many operators and sizes read it."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy.typing as npt

from edgekit._schema import plan_generated as schema
from edgekit.converters.memory import ALIGNMENT


class ConstantsSection:
    """Blobs one behind the other, each at a multiple of 64.

    Attributes:
        content: The section so far.
    """

    def __init__(self) -> None:
        self.content = bytearray()
        self._places: dict[tuple[bytes, int], int] = {}

    def add(self, blob: npt.NDArray[Any] | bytes | bytearray) -> Any:
        """Returns where ``blob`` lies, as the plan's struct says it; appends it where it is new.

        >>> section = ConstantsSection()
        >>> [section.add(blob).offset for blob in (b"ab", b"cd", b"ab")]
        [0, 64, 0]
        """
        data = bytes(blob) if isinstance(blob, bytes | bytearray) else blob.tobytes()
        key = (hashlib.sha256(data).digest(), len(data))
        offset = self._places.get(key)
        if offset is None:
            align(self.content)
            offset = self._places[key] = len(self.content)
            self.content += data
        return schema.BlobT(offset, len(data))


def align(section: bytearray) -> None:
    """Fills ``section`` up to a multiple of 64."""
    section.extend(bytes(-len(section) % ALIGNMENT))
