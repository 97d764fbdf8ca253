"""A device of a fleet, and edgekit-board on it."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgekit.delivery.fleet.inventory import FOLDER_SCHEME, FleetDevice
from edgekit.delivery.ssh import Completed, Ssh, SshAddress, choose_process_group
from edgekit.targets.errors import DeviceError, ToolError

PROGRAM = "bin/edgekit-board"
# A command waits for one that runs on the device already: a check of a large network.
_STATUS_S = 120.0
_CHECK_S = 900.0
_NOT_FOUND = (126, 127)


@dataclass(frozen=True)
class Occupant:
    """A bundle in a slot.

    Attributes:
        release: Its release.
        digest: SHA-256 of its manifest.
    """

    release: int
    digest: str


@dataclass(frozen=True)
class BoardState:
    """What `edgekit-board ROOT status` tells.

    Attributes:
        board: Profile's name.
        active: The slot that was confirmed, "a" or "b"; "-" where nothing was.
        trial: The slot on trial, or "-".
        starts: How often the trial may still be started.
        floor: The lowest release that the device takes.
        slots: What lies in each slot.
    """

    board: str
    active: str
    trial: str
    starts: int
    floor: int
    slots: Mapping[str, Occupant] = field(default_factory=dict)

    @property
    def slot(self) -> str:
        """The slot that runs: the trial where there is one."""
        return self.active if self.trial == "-" else self.trial

    @property
    def running(self) -> Occupant | None:
        """The bundle that runs."""
        return self.slots.get(self.slot)

    def runs(self, digest: str) -> bool:
        """Returns whether a bundle runs, on trial or confirmed."""
        running = self.running
        return running is not None and running.digest == digest

    def confirmed(self, digest: str) -> bool:
        """Returns whether a bundle runs, and stays."""
        return self.trial == "-" and self.runs(digest)

    def __str__(self) -> str:
        if self.slot == "-":
            return "empty"
        return "confirmed" if self.trial == "-" else f"on trial, {self.starts} starts left"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads JSON.

        Raises:
            DeviceError: It is something else.
        """
        try:
            found: dict[str, Any] = json.loads(text)
            slots = {
                name: Occupant(int(row["release"]), str(row["manifest_sha256"]))
                for name, row in found["slots"].items()
            }
            return cls(
                str(found["board"]),
                str(found["active"]),
                str(found["trial"]),
                int(found["starts"]),
                int(found["floor"]),
                slots,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DeviceError(
                f"its edgekit-board says nothing of use, and may be too old: {error!r}"
            ) from error


def find_ssh_options(device: FleetDevice) -> tuple[str, ...]:
    """Returns a device's words for ssh: nobody types passwords for many devices at once."""
    return (*device.ssh_options, "-o", "BatchMode=yes")


class BoardDevice:
    """Commands for one device. As a context manager it keeps one connection for all of them."""

    def __init__(self, device: FleetDevice, *, sudo: bool = False) -> None:
        """Names the device; nothing is connected yet.

        Args:
            device: Which one.
            sudo: Whether to work as root on it, by a sudo that asks for no password.
        """
        self._device = device
        self._sudo = sudo
        self._stack = ExitStack()
        self._ssh: Ssh | None = None
        if device.address.startswith(FOLDER_SCHEME):
            self._root = device.address.removeprefix(FOLDER_SCHEME)
        else:
            address = SshAddress.parse(device.address)
            self._root = address.root
            self._ssh = Ssh(address, find_ssh_options(device))

    def __enter__(self) -> Self:
        if self._ssh is not None:
            self._stack.enter_context(self._ssh)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def status(self) -> BoardState | None:
        """Returns the device's state, None where edgekit was never there.

        Raises:
            ToolError: It cannot be reached.
            DeviceError: It says something else.
        """
        done = self._board("status", timeout_s=_STATUS_S)
        if done.status in _NOT_FOUND or "no device's folder" in done.stderr:
            return None
        return BoardState.parse(self._insist(done))

    def check(self, slot: str) -> None:
        """Has the device check a slot: signature, digests, golden inputs, time, memory.

        Raises:
            DeviceError: Something is wrong with it.
            ToolError: The device cannot be reached.
        """
        self._insist(self._board("check", slot, timeout_s=_CHECK_S))

    def go_back(self, why: str) -> None:
        """Has the device run its former bundle.

        Raises:
            DeviceError: It has none.
            ToolError: The device cannot be reached.
        """
        self._insist(self._board("back", why, timeout_s=_CHECK_S))

    def run(self, command: str, *, timeout_s: float) -> None:
        """Runs a command of the user's on the device, with ROOT in its environment.

        Raises:
            DeviceError: It ended with another status than 0.
            ToolError: The device cannot be reached, or the time was over.
        """
        done = self._run(f"ROOT={shlex.quote(self._root)}; export ROOT; {command}", timeout_s)
        self._insist(done, command)

    def _board(self, *words: str, timeout_s: float) -> Completed:
        return self._run(
            shlex.join([str(Path(self._root) / PROGRAM), self._root, *words]), timeout_s
        )

    def _run(self, command: str, timeout_s: float) -> Completed:
        if self._sudo:
            command = f"sudo -n sh -c {shlex.quote(command)}"
        if self._ssh is not None:
            return self._ssh.run(command, timeout_s=timeout_s, check=False)
        try:
            done = subprocess.run(
                ["sh", "-c", command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=timeout_s,
                process_group=choose_process_group(),
            )
        except subprocess.TimeoutExpired as error:
            raise ToolError(
                f"{self._device.address}: no end after {timeout_s:g} s: {command}"
            ) from error
        return Completed(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))

    def _insist(self, done: Completed, command: str | None = None) -> str:
        if done.status == 0:
            return done.text
        lines = [line for line in (done.stderr + "\n" + done.text).splitlines() if line.strip()]
        reason = lines[0].removeprefix("edgekit-board: ") if lines else "no word of why"
        named = f"{command}: " if command else ""
        raise DeviceError(
            f"{self._device.address}: {named}{reason}"
            + (f" (status {done.status})" if command else "")
        )
