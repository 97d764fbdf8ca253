"""A lock beside a journal that ends with the process that holds it, however it ends."""

from __future__ import annotations

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Not a POSIX system: Optuna's own lock has to do.
    fcntl = None  # type: ignore[assignment]


class JournalLock:
    """A lock as Optuna's journals take it; a killed holder leaves it free at once, where a lock file would stay.

    Args:
        journal: The file that it guards.
    """

    def __init__(self, journal: Path) -> None:
        self._path = f"{journal}.lock"
        self._file = -1

    def acquire(self) -> bool:
        """Waits until nobody else holds it."""
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        """Lets others have it."""
        os.close(self._file)


def make_lock(journal: Path) -> JournalLock | None:
    """Returns the lock of a journal, None where this system has none of the kind."""
    return None if fcntl is None else JournalLock(journal)
