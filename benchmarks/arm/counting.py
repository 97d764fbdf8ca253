"""Counts the instructions of aarch64 programs under qemu's user emulator, with a TCG plugin.

A count is a fact about a program and not a time: it knows no cache, no pipeline and no clock. Two runs of one program
agree, which is what makes it a gate.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "arm"
# What the profiles of boards prefer, so what ships is what is counted; and their other choice.
CROSS = ROOT / "build" / "aarch64-benchmarks"
CROSS_GNU = ROOT / "build" / "aarch64"
_PLUGIN_SOURCE = Path(__file__).parent / "count_instructions.cc"
# The plugin speaks version 1 of the interface, which qemu 4.2 to 8.2 have.
_MAJOR_VERSIONS = range(5, 9)


class MissingToolError(Exception):
    """Something that counting needs is not installed; the message says what and how to get it."""


def find_emulator() -> str:
    """Finds an emulator that loads plugins: Debian's static one does not.

    Raises:
        MissingToolError: There is none, or its version is not known to work.
    """
    emulator = shutil.which("qemu-aarch64")
    if emulator is None:
        raise MissingToolError("qemu-aarch64, which loads plugins, is missing (Debian: qemu-user)")
    printed = subprocess.run([emulator, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"version (\d+)\.", printed.stdout)
    if found is None or int(found[1]) not in _MAJOR_VERSIONS:
        raise MissingToolError(
            f"{emulator} is not of a version from 5 to 8, whose plugins are known"
        )
    return emulator


def build_plugin() -> Path:
    """Builds the plugin for this machine.

    Raises:
        MissingToolError: There is no C++ compiler.
    """
    compiler = shutil.which("c++")
    if compiler is None:
        raise MissingToolError("a C++ compiler for this machine is missing (Debian: g++)")
    BUILD.mkdir(parents=True, exist_ok=True)
    plugin = BUILD / "libcount_instructions.so"
    flags = ["-O2", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    subprocess.run([compiler, *flags, "-o", str(plugin), str(_PLUGIN_SOURCE)], check=True)
    return plugin


class InstructionCounter:
    """Runs programs in emulation and counts their instructions by function."""

    def __init__(self) -> None:
        self.emulator = find_emulator()
        self._plugin = build_plugin()

    def count(
        self,
        cpu: str,
        command: Sequence[str],
        *,
        flags: Sequence[str] = (),
        wrapper: Sequence[str] = (),
    ) -> tuple[Counter[str], str]:
        """Runs a program once.

        Args:
            cpu: What qemu takes as `-cpu`.
            command: The program and its words.
            flags: More words for the emulator.
            wrapper: Words before the emulator's own.

        Returns:
            Instructions by mangled function name ("-" where there is none), and what was printed.

        Raises:
            subprocess.CalledProcessError: The program failed.
        """
        with tempfile.NamedTemporaryFile(mode="r") as result:
            words = [*wrapper, self.emulator, *flags, "-cpu", cpu]
            words += ["-plugin", f"{self._plugin},to={result.name}", *command]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            counts: Counter[str] = Counter()
            for line in result:
                count, name = line.rstrip("\n").split(" ", 1)
                counts[name] += int(count)
        return counts, done.stdout

    def count_step(
        self, cpu: str, make_command: Callable[[int], Sequence[str]], few: int, many: int
    ) -> tuple[Counter[str], str]:
        """Counts one repetition: `many` repetitions less `few`, by their difference.

        Args:
            cpu: What qemu takes as `-cpu`.
            make_command: Returns the command that does its work as often as it is told.
            few: Repetitions that are taken off, with everything that happens once.
            many: Repetitions that are counted.
        """
        base, _ = self.count(cpu, make_command(few))
        counts, printed = self.count(cpu, make_command(many))
        counts.subtract(base)
        return Counter(
            {name: round(n / (many - few)) for name, n in counts.items() if n > 0}
        ), printed


def demangle(names: Sequence[str]) -> list[str]:
    """Returns C++ names without arguments, in the order given."""
    done = subprocess.run(
        ["c++filt", "-p"], input="\n".join(names), capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()
