"""Bundles and root folders for the tests of images and packages."""

import struct
import subprocess
from pathlib import Path
from typing import Any

from signed_bundles import KEY
from small_bundles import make

ARM64 = 183


def write_key(folder: Path) -> Path:
    """Writes the public key of `KEY`."""
    path = folder / "team.pub"
    path.write_text(KEY.public.to_text())
    return path


def make_signed(folder: Path, machine: int = ARM64, **changes: Any) -> Path:
    """Writes a signed bundle for rpi4 whose edgekit-board is an ELF header of that machine; returns its folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    program = folder.parent / "edgekit-board.elf"
    program.write_bytes(elf_header(machine))
    return make(folder, board_program=program, sign_with=KEY, **changes).path


def elf_header(machine: int) -> bytes:
    """Returns the first bytes of a program for a processor."""
    return b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack("<HH", 2, machine) + bytes(44)


def write_mbr(image: Path, partitions: list[tuple[int, int, int]]) -> None:
    """Writes a partition table: type, first byte and size of each partition."""
    rows = b"".join(
        struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", kind, b"\xfe\xff\xff", at // 512, size // 512)
        for kind, at, size in partitions
    )
    with image.open("r+b") as file:
        file.seek(446)
        file.write(rows.ljust(64, b"\0") + b"\x55\xaa")


def read_ext4(image: Path, offset: int, path: str) -> bytes:
    """Returns a file of an ext4 file system that begins at `offset`."""
    done = subprocess.run(
        ["debugfs", "-R", f"cat {path}", f"{image}?offset={offset}"],
        capture_output=True,
        check=True,
    )
    assert b"File not found" not in done.stderr, path
    return done.stdout
