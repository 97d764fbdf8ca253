"""A device of a fleet, and edgekit-board on it."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import TracebackType
from typing import Self

from edgekit.delivery.device import DeviceStatus
from edgekit.delivery.fleet.devices import FOLDER_SCHEME, FleetDevice
from edgekit.delivery.shell import LocalShell, Shell
from edgekit.delivery.ssh import Completed, Ssh, SshAddress
from edgekit.targets.errors import DeviceError

PROGRAM = "bin/edgekit-board"
# A command waits for one that runs on the device already: a check of a large network.
_STATUS_S = 120.0
_CHECK_S = 900.0
_NOT_FOUND = (126, 127)


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
        self._shell: Shell
        if device.address.startswith(FOLDER_SCHEME):
            self._root = device.address.removeprefix(FOLDER_SCHEME)
            self._shell = LocalShell()
        else:
            address = SshAddress.parse(device.address)
            self._root = address.root
            self._shell = Ssh(address, find_ssh_options(device))

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

    def status(self) -> DeviceStatus | None:
        """Returns the device's state, None where edgekit was never there.

        Raises:
            ToolError: It cannot be reached.
            DeviceError: It says something else.
        """
        done = self._board("status", timeout_s=_STATUS_S)
        if done.status in _NOT_FOUND or "no device's folder" in done.stderr:
            return None
        return DeviceStatus.parse(self._insist(done))

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
        return self._shell.run(command, timeout_s=timeout_s, check=False)

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
