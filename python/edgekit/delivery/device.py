"""What a device says of itself, and what a person may tell it: edgekit-board there, over ssh or in a folder here."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from edgekit.delivery.shell import LocalShell, Shell
from edgekit.delivery.ssh import Completed, Ssh, SshAddress
from edgekit.targets.errors import DeviceError, EdgekitError, ToolError

_DIR = "dir://"
# A shell's exit status where a program is not there.
_NO_PROGRAM = 127


@dataclass(frozen=True)
class Occupant:
    """The bundle of a slot.

    Attributes:
        release: Its number.
        manifest_sha256: Which one it is: two bundles of one release may differ.
    """

    release: int
    manifest_sha256: str


@dataclass(frozen=True)
class DeviceStatus:
    """What a device is in.

    Attributes:
        version: Of its edgekit-board.
        board: Name of its profile.
        active: The slot whose bundle was confirmed, None where none was.
        trial: The slot whose bundle is on trial, None where none is.
        starts: How many starts a trial has left.
        floor: The lowest release that the device takes.
        slots: What the slots hold, by "a" and "b".
    """

    version: str
    board: str
    active: str | None
    trial: str | None
    starts: int
    floor: int
    slots: Mapping[str, Occupant]

    @property
    def slot(self) -> str | None:
        """The slot that the next start runs: the trial where there is one."""
        return self.trial or self.active

    @property
    def running(self) -> Occupant | None:
        """What the next start runs."""
        return None if self.slot is None else self.slots.get(self.slot)

    def runs(self, manifest_sha256: str) -> bool:
        """Returns whether a bundle runs, on trial or confirmed."""
        running = self.running
        return running is not None and running.manifest_sha256 == manifest_sha256

    def confirmed(self, manifest_sha256: str) -> bool:
        """Returns whether a bundle runs, and stays."""
        return self.trial is None and self.runs(manifest_sha256)

    def __str__(self) -> str:
        if self.slot is None:
            return "empty"
        return "confirmed" if self.trial is None else f"on trial, {self.starts} starts left"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads what edgekit-board prints.

        Raises:
            DeviceError: It is something else.
        """
        try:
            facts: dict[str, Any] = json.loads(text)
            return cls(
                str(facts["version"]),
                str(facts["board"]),
                None if facts["active"] == "-" else str(facts["active"]),
                None if facts["trial"] == "-" else str(facts["trial"]),
                int(facts["starts"]),
                int(facts["floor"]),
                {
                    name: Occupant(int(slot["release"]), str(slot["manifest_sha256"]))
                    for name, slot in facts["slots"].items()
                },
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DeviceError(
                f"its edgekit-board says nothing of use, and may be too old: {error!r}"
            ) from error


@dataclass(frozen=True)
class LogEntry:
    """Something that happened on a device.

    Attributes:
        time: By the device's clock, which may be wrong: "2026-01-31T12:00:00Z".
        change: How many changes of its state there had been: entries are in order by it.
        what: In words.
    """

    time: str
    change: int
    what: str


class Device:
    """A device, as a context manager that keeps one connection."""

    def __init__(self, address: str, *, sudo: bool = False) -> None:
        """Names a device; nothing is connected yet.

        Args:
            address: ``ssh://[user@]host[:port][/absolute/root]`` or ``dir:///absolute/root``.
            sudo: Whether to work as root there, by a sudo that asks for no password.

        Raises:
            EdgekitError: The address has another form.
        """
        self.address = address
        self._sudo = "sudo -n " if sudo else ""
        self._shell: Shell
        if address.startswith(f"{_DIR}/") and len(address) > len(_DIR) + 1:
            self._root = address.removeprefix(_DIR)
            self._shell = LocalShell()
        elif address.startswith(_DIR):
            raise EdgekitError(f"{address}: a folder here looks like dir:///absolute/root")
        else:
            parsed = SshAddress.parse(address)
            self._root = parsed.root
            self._shell = Ssh(parsed)

    def __enter__(self) -> Self:
        self._shell.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._shell.__exit__(kind, error, trace)

    def status(self) -> DeviceStatus:
        """Says which bundles the device has, and which runs.

        Raises:
            DeviceError: It has no root folder, or says what edgekit cannot read.
            ToolError: It cannot be reached.
        """
        told = self.run("status").text
        try:
            return DeviceStatus.parse(told)
        except DeviceError as error:
            raise DeviceError(f"{self.address}: {error}") from error

    def log(self) -> list[LogEntry]:
        """Says what happened on the device, oldest first.

        Raises:
            DeviceError, ToolError: As `status`.
        """
        entries = []
        for line in self.run("log").text.splitlines():
            # A power cut may have left a part of a line.
            time, change, what = [*line.split(" ", 2), "", ""][:3]
            if change.isascii() and change.isdigit():
                entries.append(LogEntry(time, int(change), what))
        return entries

    def confirm(self) -> None:
        """Ends a trial: its bundle stays.

        Raises:
            DeviceError: Nothing is installed.
            ToolError: As `status`.
        """
        self.run("confirm")

    def back(self, why: str) -> None:
        """Ends a trial, or goes to the other slot where that holds a whole bundle; the next start runs it.

        Raises:
            DeviceError: There is nothing to go back to.
            ToolError: As `status`.
        """
        self.run("back", why)

    def run(self, *words: str) -> Completed:
        """Runs a command of edgekit-board there.

        Raises:
            DeviceError: It refused.
            ToolError: The device cannot be reached.
        """
        program = shlex.quote(f"{self._root}/bin/edgekit-board")
        emulator = os.environ.get("EDGEKIT_EMULATOR", "") if self.address.startswith(_DIR) else ""
        line = f"{emulator} {program} {shlex.quote(self._root)} {shlex.join(words)}".strip()
        done = self._shell.run(f"{self._sudo}sh -c {shlex.quote(line)}", check=False)
        if done.status == 0:
            return done
        said = (done.stderr.strip() or done.text.strip() or f"status {done.status}").splitlines()[
            -1
        ]
        if done.status == _NO_PROGRAM:
            raise DeviceError(
                f"{self.address}: no edgekit-board in {self._root}/bin there: flash a bundle first"
            )
        if said.startswith("sudo:"):
            raise ToolError(f"{self.address}: {said}")
        raise DeviceError(f"{self.address}: {said.removeprefix('edgekit-board: ')}")
