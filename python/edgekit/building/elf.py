"""Reads of an ELF file which machine it is for and whether it needs a loader.

Layouts: System V ABI, "Object Files" and "Program Loading and Dynamic Linking".
"""

import struct
from pathlib import Path

# e_machine by what `uname -m` and qemu name the architecture, and the class: 1 is 32 bit, 2 is 64.
_MACHINES = {"x86_64": (62, 2), "aarch64": (183, 2), "arm": (40, 1), "riscv64": (243, 2)}
# By class: the offsets of e_phoff with its format, and of e_phentsize, and the header's size.
_LAYOUTS = {1: (28, "<I", 42, 52), 2: (32, "<Q", 54, 64)}
_PT_INTERP = 3


def is_static_elf(path: Path, architecture: str) -> bool:
    """Returns whether `path` is a little-endian ELF program for `architecture` that names no loader."""
    if architecture not in _MACHINES:
        return False
    machine, size_class = _MACHINES[architecture]
    table_at, table_format, entry_at, header_size = _LAYOUTS[size_class]
    with path.open("rb") as file:
        header = file.read(header_size)
        if len(header) < header_size or header[:6] != bytes([0x7F, *b"ELF", size_class, 1]):
            return False
        (found,) = struct.unpack_from("<H", header, 18)
        (table,) = struct.unpack_from(table_format, header, table_at)
        entry_size, entries = struct.unpack_from("<HH", header, entry_at)
        file.seek(table)
        rows = file.read(entry_size * entries)
    if found != machine or entry_size < 4 or len(rows) < entry_size * entries:
        return False
    kinds = {struct.unpack_from("<I", rows, i * entry_size)[0] for i in range(entries)}
    return _PT_INTERP not in kinds
