"""The journal of a rollout: which devices have the bundles, so that a rollout that was interrupted goes on.

It is replaced whole, by a rename, after each device. A second rollout with the same journal is refused while one runs.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgekit.targets.errors import EdgekitError

_SCHEMA = 1


class DeviceOutcome(StrEnum):
    """How far a device is."""

    PENDING = "pending"
    UPDATED = "updated"
    FAILED = "failed"
    TAKEN_BACK = "taken back"


class Outcome(StrEnum):
    """How a rollout ended, or that it has not."""

    RUNNING = "running"
    DONE = "done"
    ABORTED = "aborted"
    STOPPED = "stopped"
    TAKEN_BACK = "taken back"


@dataclass(frozen=True)
class Entry:
    """What became of a device.

    Attributes:
        state: How far it is.
        board: Its profile's name.
        slot: Where the bundle lies, "a" or "b".
        release: The bundle's.
        digest: SHA-256 of the bundle's manifest.
        detail: What went wrong.
        when: When that was, in UTC.
    """

    state: DeviceOutcome = DeviceOutcome.PENDING
    board: str | None = None
    slot: str | None = None
    release: int | None = None
    digest: str | None = None
    detail: str | None = None
    when: str | None = None


@dataclass(frozen=True)
class Record:
    """What a journal's file says.

    Attributes:
        bundles: Digest of the manifest of each board's bundle.
        outcome: How the rollout ended.
        settled: Devices, from the first on, that were still well after their stage's wait.
        entries: The devices.
    """

    bundles: dict[str, str]
    outcome: Outcome
    settled: int
    entries: dict[str, Entry]


class Journal:
    """A rollout's file. As a context manager it keeps other rollouts from it."""

    def __init__(self, path: Path, bundles: Mapping[str, str], *, anew: bool = False) -> None:
        """Opens a journal, or begins one.

        Args:
            path: The file.
            bundles: Digest of the manifest of each board's bundle.
            anew: Forget what the file says.

        Raises:
            EdgekitError: The file is none of edgekit's, or of an unfinished rollout of other bundles.
        """
        self.path = path
        self.bundles = dict(bundles)
        self.outcome = Outcome.RUNNING
        self.entries: dict[str, Entry] = {}
        # Devices, from the first on, that were still well after their stage's wait.
        self.settled = 0
        self._lock = threading.Lock()
        self._file: int | None = None
        self._anew = anew

    def __enter__(self) -> Self:
        self._file = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise EdgekitError(f"{self.path}: another rollout with this journal runs") from error
        try:
            self._load()
        except BaseException:
            self._unlock()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._unlock()

    def begin(self, names: Iterable[str]) -> None:
        """Begins or goes on with these devices: what failed before is tried again, and new ones are added."""
        with self._lock:
            self.outcome = Outcome.RUNNING
            for name in names:
                entry = self.entries.get(name, Entry())
                if entry.state != DeviceOutcome.UPDATED:
                    self.entries[name] = replace(entry, state=DeviceOutcome.PENDING, detail=None)
            self._write()

    def record(self, name: str, entry: Entry) -> None:
        """Writes down what became of a device; it is on the disk when this returns."""
        with self._lock:
            self.entries[name] = replace(entry, when=tell_time())
            self._write()

    def settle(self, count: int) -> None:
        """Writes down that the first so many devices were still well after their stage's wait."""
        with self._lock:
            self.settled = max(self.settled, count)
            self._write()

    def finish(self, outcome: Outcome) -> None:
        """Writes down how the rollout ended."""
        with self._lock:
            self.outcome = outcome
            self._write()

    def names(self, state: DeviceOutcome) -> list[str]:
        """Returns the devices in a state."""
        return [name for name, entry in self.entries.items() if entry.state == state]

    def _load(self) -> None:
        if self._anew or not self.path.exists():
            return
        record = read_journal(self.path)
        if record.bundles == self.bundles:
            self.outcome, self.entries = record.outcome, record.entries
            self.settled = record.settled
        elif record.outcome not in (Outcome.DONE, Outcome.TAKEN_BACK):
            theirs = ", ".join(f"{board} {digest[:12]}" for board, digest in record.bundles.items())
            raise EdgekitError(
                f"{self.path}: a rollout of other bundles ({theirs}) is not finished: go on with those, take them back "
                "(edgekit fleet back), or begin anew with --anew"
            )

    def _write(self) -> None:
        content = {
            "schema": _SCHEMA,
            "outcome": self.outcome,
            "bundles": self.bundles,
            "settled": self.settled,
            "devices": {
                name: {key: value for key, value in asdict(entry).items() if value is not None}
                for name, entry in self.entries.items()
            },
        }
        replace_json(self.path, content)

    def _unlock(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def read_journal(path: Path) -> Record:
    """Reads a journal.

    Raises:
        EdgekitError: It cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != _SCHEMA:
            raise ValueError(f"schema {content['schema']}")
        known = {item.name for item in fields(Entry)}
        entries = {}
        for name, row in content["devices"].items():
            if not row.keys() <= known:
                raise ValueError(f"unknown key in '{name}'")
            entries[name] = Entry(**{**row, "state": DeviceOutcome(row["state"])})
        bundles = {str(board): str(digest) for board, digest in content["bundles"].items()}
        return Record(bundles, Outcome(content["outcome"]), int(content["settled"]), entries)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EdgekitError(f"{path}: no journal of a rollout: {error!r}") from error


def replace_json(path: Path, content: Any) -> None:
    """Replaces a file in one step; what it holds is on the disk when this returns."""
    new = path.with_name(f"{path.name}.new")
    with new.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def tell_time() -> str:
    """Returns the time in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
