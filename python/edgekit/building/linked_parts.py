"""Says which libraries are linked into edgekit's programs: csrc/runtime/linked_parts.h writes it into each of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_NOTE = re.compile(rb"edgekit links ([ -~]{1,200})\0")
_GCC_EXCEPTION = "GPL-3.0-or-later WITH GCC-exception-3.1"
_LLVM_EXCEPTION = "Apache-2.0 WITH LLVM-exception"
# SPDX expressions by part.
_LICENCES = {
    "libstdc++": _GCC_EXCEPTION,
    "libgcc": _GCC_EXCEPTION,
    "glibc": "LGPL-2.1-or-later",
    "libc++": _LLVM_EXCEPTION,
    "libc++abi": _LLVM_EXCEPTION,
    "libunwind": _LLVM_EXCEPTION,
    "compiler-rt": _LLVM_EXCEPTION,
    "musl": "MIT",
    "zig-compiler-rt": "MIT",
    "flatbuffers": "Apache-2.0",
}
_LIBCS = ("glibc", "musl")


@dataclass(frozen=True)
class LinkedPart:
    """A library of which code is in a program.

    Attributes:
        name: Its usual name.
        version: "" where it is not known.
        licence: SPDX expression, "" where it is not known.
    """

    name: str
    version: str
    licence: str


def read_linked_parts(program: Path, zig: str = "") -> list[LinkedPart]:
    """Returns what is linked into a program, sorted by name; nothing where the program does not say.

    A static library, `.a`, holds none of the compiler's libraries, and a shared one, `.so`, not the C library.

    Args:
        program: An ELF program or library.
        zig: Version of zig, where it was built with that: its own routines stand in for the compiler's.
    """
    found = _NOTE.search(program.read_bytes())
    if found is None:
        return []
    versions = {}
    for item in found[1].decode("ascii").split("; "):
        name, _, version = item.partition(" ")
        versions[name] = version
    gcc, clang = versions.pop("gcc", ""), versions.pop("clang", "")
    if zig:
        versions["zig-compiler-rt"] = zig
    elif gcc:
        versions["libgcc"] = gcc
    elif clang:
        versions["compiler-rt"] = clang
    if "libc++" in versions:
        number = int(versions["libc++"])
        version = f"{number // 10000}.{number // 100 % 100}.{number % 100}"
        versions |= dict.fromkeys(("libc++", "libc++abi", "libunwind"), version)
    if program.suffix == ".a":
        versions = {name: version for name, version in versions.items() if name == "flatbuffers"}
    elif program.suffix == ".so":
        versions = {name: version for name, version in versions.items() if name not in _LIBCS}
    return [LinkedPart(name, versions[name], _LICENCES.get(name, "")) for name in sorted(versions)]
