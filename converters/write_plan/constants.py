"""The constants section of a plan: every blob once, however many operators and sizes read it."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from edgekit._schema import plan_generated as schema
from edgekit.converters.memory import ALIGNMENT

# Bytes at each end of a blob by which most that differ are told apart.
_END = 256


class ConstantsSection:
    """Blobs one behind the other, each at a multiple of 64.

    Attributes:
        content: The section so far.
    """

    def __init__(self) -> None:
        self.content = bytearray()
        # By length and ends, where blobs begin that have these.
        self._places: dict[tuple[int, bytes, bytes], list[int]] = {}

    def add(self, blob: npt.NDArray[Any] | bytes | bytearray) -> Any:
        """Returns where ``blob`` lies, as the plan's struct says it; appends it where it is new.

        >>> section = ConstantsSection()
        >>> [section.add(blob).offset for blob in (b"ab", b"cd", b"ab")]
        [0, 64, 0]
        """
        data = bytes(blob) if isinstance(blob, bytes | bytearray) else blob.tobytes()
        size = len(data)
        alike = self._places.setdefault((size, data[:_END], data[-_END:]), [])
        for offset in alike:
            if self.content.startswith(data, offset):
                return schema.BlobT(offset, size)
        align(self.content)
        alike.append(len(self.content))
        self.content += data
        return schema.BlobT(alike[-1], size)


def align(section: bytearray) -> None:
    """Fills ``section`` up to a multiple of 64."""
    section.extend(bytes(-len(section) % ALIGNMENT))
