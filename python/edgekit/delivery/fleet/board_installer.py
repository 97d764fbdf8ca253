"""Brings a fleet's devices their bundles: the rollout's hands, over `flash` and edgekit-board."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekit.bundles.bundle import Bundle
from edgekit.delivery.device import DeviceStatus
from edgekit.delivery.flash import flash
from edgekit.delivery.fleet.board_device import BoardDevice, find_ssh_options
from edgekit.delivery.fleet.devices import FleetDevice
from edgekit.delivery.fleet.journal import DeviceOutcome, Entry
from edgekit.targets.errors import DeviceError, EdgekitError, ToolError

_POLL_S = 1.0
_COMMAND_S = 120.0


@dataclass(frozen=True)
class Care:
    """What belongs to an update besides the bundle.

    Attributes:
        key: Public key for devices that have no root folder yet.
        sudo: Whether to work as root on devices, by a sudo that asks for no password.
        restart: Command that makes a device's service start anew. With one, that service confirms the bundle; without
            one, it stays as soon as it was checked.
        confirm_within_s: How long the service may take for that.
        check: Command that ends with status 0 on a device that is well.
    """

    key: Path | None = None
    sudo: bool = False
    restart: str | None = None
    confirm_within_s: float = 60.0
    check: str | None = None


class BoardInstaller:
    """Installs, looks after and takes back; `rollout.Installer`."""

    def __init__(
        self, bundles: Mapping[str, Bundle], digests: Mapping[str, str], care: Care
    ) -> None:
        """Takes the bundles.

        Args:
            bundles: By board; signed.
            digests: SHA-256 of each one's manifest.
            care: How they are installed.
        """
        self._bundles = bundles
        self._digests = digests
        self._care = care

    def install(self, device: FleetDevice) -> Entry:
        """Brings a device its bundle; see `rollout.Installer`."""
        board = device.board
        if board is None:
            board = find_board(device, BoardDevice(device, sudo=self._care.sudo).status())
        bundle, digest = self._choose(board)
        # A device of another board, or on trial with another bundle, refuses; one that runs this bundle says so.
        done = flash(
            bundle.path,
            device.address,
            key=self._care.key,
            confirm=self._care.restart is None,
            sudo=self._care.sudo,
            ssh_options=find_ssh_options(device),
        )
        if self._care.restart is not None or self._care.check is not None:
            with BoardDevice(device, sudo=self._care.sudo) as there:
                self._settle(there, device, digest, is_new=done.state == "trial")
        return Entry(DeviceOutcome.UPDATED, board, done.slot, done.release, digest)

    def recheck(self, device: FleetDevice) -> None:
        """Looks after an updated device; see `rollout.Installer`."""
        with BoardDevice(device, sudo=self._care.sudo) as there:
            state = there.status()
            _, digest = self._choose(find_board(device, state))
            if state is None or state.slot is None or not state.confirmed(digest):
                raise DeviceError(f"{device.address}: it does not run the bundle any more: {state}")
            there.check(state.slot)
            self._check(there)

    def go_back(self, device: FleetDevice, why: str) -> None:
        """Takes a device's bundle back; see `rollout.Installer`."""
        with BoardDevice(device, sudo=self._care.sudo) as there:
            _, digest = self._choose(find_board(device, there.status()))
            self._back(there, digest, why)

    def _choose(self, board: str) -> tuple[Bundle, str]:
        if board not in self._bundles:
            raise DeviceError(
                f"no bundle for {board}; there are bundles for {', '.join(self._bundles)}"
            )
        return self._bundles[board], self._digests[board]

    def _settle(
        self, there: BoardDevice, device: FleetDevice, digest: str, *, is_new: bool
    ) -> None:
        """Has the service start the bundle, waits until it has confirmed it, and goes back where that fails."""
        try:
            if self._care.restart is not None and is_new:
                there.run(self._care.restart, timeout_s=_COMMAND_S)
                self._wait_confirmed(there, device, digest)
            self._check(there)
        except EdgekitError as error:
            self._back(there, digest, str(error))
            raise

    def _check(self, there: BoardDevice) -> None:
        if self._care.check is not None:
            there.run(self._care.check, timeout_s=_COMMAND_S)

    def _wait_confirmed(self, there: BoardDevice, device: FleetDevice, digest: str) -> None:
        """Waits until the service has confirmed the bundle."""
        end = time.monotonic() + self._care.confirm_within_s
        while True:
            state = there.status()
            if state is not None and state.confirmed(digest):
                return
            if state is None or state.trial is None:
                raise DeviceError(f"{device.address}: the device took the bundle back")
            if time.monotonic() >= end:
                raise ToolError(
                    f"{device.address}: not confirmed within {self._care.confirm_within_s:g} s"
                )
            time.sleep(_POLL_S)

    def _back(self, there: BoardDevice, digest: str, why: str) -> bool:
        """Goes back where this bundle runs; returns whether it did."""
        state = there.status()
        # A device that took the bundle back by itself would change over to it again.
        if state is None or not state.runs(digest):
            return False
        there.go_back(why)
        if self._care.restart is not None:
            there.run(self._care.restart, timeout_s=_COMMAND_S)
        return True


def find_board(device: FleetDevice, state: DeviceStatus | None) -> str:
    """Returns the board of a device: what it says itself, which the inventory may not contradict.

    Raises:
        DeviceError: They differ, or neither says anything.
    """
    if state is None:
        if device.board is None:
            raise DeviceError(
                f"{device.address}: edgekit was never there: give '{device.name}' a board in the inventory"
            )
        return device.board
    if device.board not in (None, state.board):
        raise DeviceError(
            f"{device.address}: the inventory says {device.board}, and the device {state.board}"
        )
    return state.board
