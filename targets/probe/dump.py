"""The text that `probe.sh` prints: files of a device, framed so that none can be taken for another.

A line says what follows, and each line of content stands behind a space::

    edgekit-probe 1
    == /proc/meminfo
     MemTotal:        3884364 kB
    =! /sys/class/powercap/intel-rapl:0/energy_uj
    =@ /usr/lib/aarch64-linux-gnu/libOpenCL.so.1
    =$ uname -m
     aarch64
    =. end
"""

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekit.targets.errors import TargetError

PROBE_SCRIPT = Path(__file__).parent / "probe.sh"
_FIRST = "edgekit-probe 1"
_LAST = "=. end"
# A machine with a thousand cores prints less.
_MOST_BYTES = 16 << 20
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True)
class Dump:
    """What a device told.

    Attributes:
        files: Text of each file by its path, without the last line's end; of properties of the device tree, their
            strings a line each.
        commands: What a command printed, by its words.
        present: Paths that are there.
        denied: Paths that may not be read.
    """

    files: Mapping[str, str]
    commands: Mapping[str, str]
    present: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()

    def text(self, path: str) -> str | None:
        """Returns a file's text without white space around it, None where there is none."""
        found = self.files.get(path)
        return found.strip() or None if found is not None else None

    def number(self, path: str) -> int | None:
        """Returns a file's whole number, None where it holds none."""
        found = self.text(path)
        return int(found) if found is not None and _NUMBER.fullmatch(found) else None

    def positive(self, path: str) -> int | None:
        """Returns a file's whole number if it is above 0, else None."""
        found = self.number(path)
        return found if found and found > 0 else None

    def match(self, pattern: str) -> list[str]:
        """Returns the paths of files with a text that fit a shell's pattern, numbers in their order."""
        return sorted(fnmatch.filter(self.files, pattern), key=natural_order)

    def list_cpus(self) -> list[int]:
        """Returns the numbers of cores that /sys names."""
        prefix = "/sys/devices/system/cpu/cpu"
        numbers = (re.match(r"[0-9]{1,5}(?=/)", path[len(prefix) :]) for path in self.files)
        paths = zip(self.files, numbers, strict=True)
        return sorted({int(n.group()) for path, n in paths if n and path.startswith(prefix)})


def natural_order(path: str) -> list[tuple[int, str]]:
    """Returns a key that sorts hwmon10 behind hwmon9."""
    return [
        (len(part.lstrip("0")), part) if part[0] in "0123456789" else (-1, part)
        for part in re.split(r"([0-9]+)", path)
        if part
    ]


def parse_dump(content: bytes, name: str) -> Dump:
    """Reads what `probe.sh` printed; bytes that are no UTF-8 become replacement characters.

    Args:
        content: All of it.
        name: What to call it in errors: a file or a device.

    Raises:
        TargetError: It is no such text, or not all of it.
    """
    if len(content) > _MOST_BYTES:
        raise TargetError(f"{name}: no dump of a device: {len(content)} bytes")
    lines = content.decode("utf-8", "replace").removesuffix("\n").split("\n")
    if lines[0].rstrip("\r") != _FIRST:
        raise TargetError(
            f"{name}: no dump of a device: it must begin with '{_FIRST}', as {PROBE_SCRIPT.name} prints it"
        )
    files: dict[str, list[str]] = {}
    commands: dict[str, list[str]] = {}
    present: list[str] = []
    denied: list[str] = []
    body: list[str] | None = None
    ended = False
    for number, line in enumerate(lines[1:], 2):
        line = line.rstrip("\r")
        if ended:
            raise TargetError(f"{name}, line {number}: something follows the end of the dump")
        if line.startswith(" ") and body is not None:
            body.append(line[1:])
            continue
        mark, rest, body = line[:3], line[3:], None
        if line == _LAST:
            ended = True
        elif mark == "== " and rest.startswith("/"):
            body = files.setdefault(rest, [])
            body.clear()
        elif mark == "=$ " and rest:
            body = commands.setdefault(rest, [])
            body.clear()
        elif mark == "=@ " and rest.startswith("/"):
            present.append(rest)
        elif mark == "=! " and rest.startswith("/"):
            denied.append(rest)
        else:
            raise TargetError(f"{name}, line {number}: not a line of a device's dump")
    if not ended:
        raise TargetError(f"{name}: the dump of the device breaks off: it must end with '{_LAST}'")
    return Dump(
        {path: "\n".join(text) for path, text in files.items()},
        {words: "\n".join(text) for words, text in commands.items()},
        tuple(dict.fromkeys(present)),
        tuple(dict.fromkeys(denied)),
    )


def read_dump(path: Path) -> Dump:
    """Reads a stored dump.

    Raises:
        TargetError: It is no dump.
        OSError: It cannot be read.
    """
    return parse_dump(path.read_bytes(), str(path))
