import platform
import struct
from pathlib import Path

import pytest

from edgekit.building.elf import is_static_elf


def elf32(machine: int, segment: int) -> bytes:
    header = bytearray(52)
    header[:6] = b"\x7fELF\x01\x01"
    struct.pack_into("<H", header, 18, machine)
    struct.pack_into("<I", header, 28, 52)
    struct.pack_into("<HH", header, 42, 32, 2)
    return bytes(header) + struct.pack("<I28x", 1) + struct.pack("<I28x", segment)


def elf(machine: int, segment: int, *, magic: bytes = b"\x7fELF\x02\x01") -> bytes:
    header = bytearray(64)
    header[:6] = magic
    struct.pack_into("<H", header, 18, machine)
    struct.pack_into("<Q", header, 32, 64)
    struct.pack_into("<HH", header, 54, 56, 2)
    return bytes(header) + struct.pack("<I52x", 1) + struct.pack("<I52x", segment)


@pytest.mark.parametrize(
    ("content", "architecture", "expected"),
    [
        (elf(183, 1), "aarch64", True),
        (elf(62, 1), "x86_64", True),
        (elf(183, 1), "x86_64", False),
        (elf(183, 3), "aarch64", False),
        (elf(183, 1), "riscv64", False),
        (elf(183, 1), "mips", False),
        (elf(243, 1), "riscv64", True),
        (elf32(40, 1), "arm", True),
        (elf32(40, 3), "arm", False),
        (elf32(40, 1), "aarch64", False),
        (elf32(183, 1), "aarch64", False),
        (elf(40, 1), "arm", False),
        (elf(183, 1, magic=b"\x7fELF\x01\x01"), "aarch64", False),
        (elf(183, 1)[:120], "aarch64", False),
        (b"#!/bin/sh\n", "x86_64", False),
        (b"", "x86_64", False),
    ],
)
def test_is_static_elf(tmp_path: Path, content: bytes, architecture: str, expected: bool) -> None:
    (tmp_path / "program").write_bytes(content)
    assert is_static_elf(tmp_path / "program", architecture) is expected


def test_the_shell_is_a_dynamic_program() -> None:
    assert not is_static_elf(Path("/bin/sh").resolve(), platform.machine())
