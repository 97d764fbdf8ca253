"""Tells how much of the processors others took while something was timed."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

# Fields of the first line of /proc/stat after its name (proc(5)).
_BUSY = (0, 1, 2, 5, 6)
_STOLEN = 7


class Watch:
    """Compares what all processors did with what some processes used of them; nothing where the system doesn't say.

    Attributes:
        processes: Whose use is not a disturbance; this process is always one of them.
    """

    def __init__(self, processes: Sequence[int]) -> None:
        self.processes = (os.getpid(), *processes)
        self._last = self._read()

    def read(self) -> float:
        """Returns the cores that other programs and a hypervisor took since the last call: 0.5 is half of one core."""
        before, self._last = self._last, self._read()
        wall = self._last[0] - before[0]
        return max(self._last[1] - before[1], 0.0) / wall if wall > 0 else 0.0

    def _read(self) -> tuple[float, float]:
        """Returns the time, and the processor seconds of everyone else."""
        try:
            line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
        except OSError:
            return time.perf_counter(), 0.0
        fields = [int(field) for field in line.split()[1:]]
        everyone = sum(fields[index] for index in (*_BUSY, _STOLEN))
        own = sum(_read_use(process) for process in self.processes)
        return time.perf_counter(), (everyone - own) / os.sysconf("SC_CLK_TCK")


def _read_use(process: int) -> int:
    """Returns the ticks that a process has used, all threads together."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0
    # The name, in brackets, may hold blanks.
    fields = text.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
