"""Updates a fleet, tells who runs what, and takes an update back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.building.programs import cache_dir
from edgekit.bundles.archive import is_bundle_file, unpacked
from edgekit.bundles.bundle import Bundle
from edgekit.bundles.manifest import MANIFEST
from edgekit.delivery.device import DeviceStatus
from edgekit.delivery.fleet.board_device import BoardDevice
from edgekit.delivery.fleet.board_installer import BoardInstaller, Care
from edgekit.delivery.fleet.devices import FleetDevice, Inventory
from edgekit.delivery.fleet.journal import (
    DeviceOutcome,
    Entry,
    Journal,
    Outcome,
    read_journal,
    replace_json,
    tell_time,
)
from edgekit.delivery.fleet.rollout import Event, Rollout, RolloutResult
from edgekit.delivery.fleet.signed_bundle import digest_manifest, read_signed
from edgekit.delivery.fleet.strategy import Strategy
from edgekit.targets.errors import EdgekitError

_SEEN = "fleet-seen.json"
_COMMAND_S = 120.0
# What a message about a device begins with.
_ADDRESS = re.compile(r"^[a-z]+://\S+: ")


@dataclass(frozen=True)
class DeviceRow:
    """What one device runs.

    Attributes:
        device: The device.
        state: What it says; None where it says nothing.
        problem: Why it says nothing; None also where edgekit was never there.
        seen: When it last said something, in UTC; None where that was never.
    """

    device: FleetDevice
    state: DeviceStatus | None
    problem: str | None
    seen: str | None

    def to_dict(self) -> dict[str, Any]:
        """Returns what JSON holds."""
        state, running = self.state, self.state.running if self.state else None
        return {
            "device": self.device.name,
            "address": self.device.address,
            "board": state.board if state else self.device.board,
            "slot": state.slot if state else None,
            "release": running.release if running else None,
            "digest": running.manifest_sha256 if running else None,
            "state": self.describe(),
            "seen": self.seen,
        }

    def describe(self) -> str:
        """Returns the state in words."""
        if self.problem is not None:
            return f"unreachable: {_ADDRESS.sub('', self.problem)}"
        return "without edgekit" if self.state is None else str(self.state)


@contextmanager
def opened_bundles(
    paths: Sequence[Path], key: Path | None = None
) -> Iterator[tuple[dict[str, Bundle], dict[str, str]]]:
    """Yields a fleet's bundles and the SHA-256 of their manifests, by board, to be used within the block.

    Args:
        paths: Bundles, as folders or as one file each, or folders of such.
        key: The public key that must have signed all of them.

    Raises:
        PlanError: One is damaged.
        SignatureError: One is not signed, or not by `key`.
        EdgekitError: Two are for the same board, or there is none.
    """
    bundles: dict[str, Bundle] = {}
    given: dict[str, Path] = {}
    with ExitStack() as stack:
        for path in [found for named in paths for found in _find_bundles(named)]:
            bundle = read_signed(stack.enter_context(unpacked(path)), key)
            board = bundle.target.name
            if board in bundles:
                raise EdgekitError(f"{given[board]} and {path} are both for {board}")
            bundles[board], given[board] = bundle, path
        yield bundles, {board: digest_manifest(bundle.path) for board, bundle in bundles.items()}


def update_fleet(
    inventory: Inventory,
    bundles: Sequence[Path],
    *,
    groups: Collection[str] = (),
    names: Collection[str] = (),
    strategy: Strategy | None = None,
    care: Care | None = None,
    journal: Path | None = None,
    anew: bool = False,
    tell: Callable[[Event], None] = lambda event: None,
) -> RolloutResult:
    """Brings each device of a fleet the bundle of its board, in stages.

    Called again with the same bundles, it goes on where it was interrupted or aborted: what is updated stays, what
    failed is tried again.

    Args:
        inventory: The fleet.
        bundles: One for each board.
        groups: Names of groups whose devices are meant; all devices by default.
        names: Names of more devices.
        strategy: In which steps; by default one device first, then all, and none may fail.
        care: What belongs to an update besides.
        journal: The file that says how far it is; by default beside the inventory, which see `journal_path`.
        anew: Begin anew, whatever the journal says.
        tell: Is told what happens.

    Raises:
        EdgekitError: A bundle, the inventory or the journal is not what it must be, or a board has no bundle; nothing
            was done then. What fails on a device is in the result.
    """
    care = care or Care()
    devices = inventory.select(groups, names)
    path = journal or journal_path(inventory.path)
    with opened_bundles(bundles, care.key) as (read, digests):
        without = sorted({device.board for device in devices if device.board} - read.keys())
        if without:
            raise EdgekitError(
                f"no bundle for {' and '.join(without)}, which {inventory.path} has devices of; name one, or choose "
                "others with --group or --device"
            )
        with Journal(path, digests, anew=anew) as opened:
            installer = BoardInstaller(read, digests, care)
            return Rollout(devices, opened, installer, strategy or Strategy(), tell).run()


def read_fleet(
    inventory: Inventory,
    *,
    groups: Collection[str] = (),
    names: Collection[str] = (),
    sudo: bool = False,
    parallel: int = 8,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[DeviceRow]:
    """Asks each device what it runs.

    Args:
        inventory: The fleet.
        groups: Names of groups whose devices are meant; all devices by default.
        names: Names of more devices.
        sudo: Whether to ask as root, by a sudo that asks for no password.
        parallel: How many to ask at a time.
        progress: Is told how many have answered, and how many are asked.
    """
    devices = inventory.select(groups, names)
    seen = _read_seen()
    rows = []
    with ThreadPoolExecutor(parallel) as pool:
        for row in pool.map(lambda device: _ask(device, sudo), devices):
            if row.problem is None:
                seen[row.device.address] = tell_time()
            rows.append(replace(row, seen=seen.get(row.device.address)))
            progress(len(rows), len(devices))
    _write_seen(seen)
    return rows


def take_back(
    inventory: Inventory,
    *,
    bundles: Sequence[Path] = (),
    groups: Collection[str] = (),
    names: Collection[str] = (),
    care: Care | None = None,
    journal: Path | None = None,
    why: str = "the fleet goes back",
    parallel: int = 8,
) -> dict[str, str]:
    """Lets each device that runs one of these bundles run what it ran before; others are left alone.

    Args:
        inventory: The fleet.
        bundles: Which; by default those of the journal.
        groups: Names of groups whose devices are meant; all devices by default.
        names: Names of more devices.
        care: As the update was done.
        journal: As the update had it.
        why: For the devices' logs.
        parallel: Devices that are worked on at a time.

    Returns:
        What became of each device, in words: "taken back", "left alone: ..." or "failed: ...".

    Raises:
        EdgekitError: There is neither a bundle nor a journal.
    """
    care = care or Care()
    path = journal or journal_path(inventory.path)
    recorded = read_journal(path).bundles if path.exists() else None
    wanted = recorded
    if bundles:
        with opened_bundles(bundles) as (_, wanted):
            pass
    if wanted is None:
        raise EdgekitError(f"{path}: no journal of a rollout: name the bundles to take back")
    devices = inventory.select(groups, names)
    with ThreadPoolExecutor(parallel) as pool:
        words = list(
            pool.map(lambda device: _go_back(device, set(wanted.values()), care, why), devices)
        )
    results = {device.name: word for device, word in zip(devices, words, strict=True)}
    if recorded is not None:
        with Journal(path, recorded) as opened:
            for name, word in results.items():
                if word == DeviceOutcome.TAKEN_BACK:
                    entry = opened.entries.get(name, Entry())
                    opened.record(name, replace(entry, state=DeviceOutcome.TAKEN_BACK))
            if not opened.names(DeviceOutcome.UPDATED):
                opened.finish(Outcome.TAKEN_BACK)
    return results


def journal_path(inventory: Path) -> Path:
    """Returns the journal of an inventory: `fleet.toml` has `fleet.toml.rollout.json`."""
    return inventory.with_name(f"{inventory.name}.rollout.json")


def _find_bundles(path: Path) -> list[Path]:
    if (path / MANIFEST).exists() or not path.is_dir():
        return [path]
    found = sorted(
        item for item in path.iterdir() if (item / MANIFEST).is_file() or is_bundle_file(item)
    )
    if not found:
        raise EdgekitError(f"{path}: no bundle, and no folder of bundles")
    return found


def _ask(device: FleetDevice, sudo: bool) -> DeviceRow:
    try:
        # One question is one connection.
        return DeviceRow(device, BoardDevice(device, sudo=sudo).status(), None, None)
    except (EdgekitError, OSError) as error:
        return DeviceRow(device, None, str(error), None)


def _go_back(device: FleetDevice, digests: set[str], care: Care, why: str) -> str:
    try:
        with BoardDevice(device, sudo=care.sudo) as there:
            state = there.status()
            running = None if state is None else state.running
            if running is None:
                return "left alone: nothing runs there"
            if running.manifest_sha256 not in digests:
                return f"left alone: runs release {running.release}, {running.manifest_sha256[:12]}"
            there.go_back(why)
            if care.restart is not None:
                there.run(care.restart, timeout_s=_COMMAND_S)
    except (EdgekitError, OSError) as error:
        return f"failed: {error}"
    return DeviceOutcome.TAKEN_BACK.value


def _read_seen() -> dict[str, str]:
    with suppress(OSError, ValueError):
        found = json.loads((cache_dir() / _SEEN).read_text(encoding="utf-8"))
        if isinstance(found, Mapping):
            return {str(address): str(when) for address, when in found.items()}
    return {}


def _write_seen(seen: Mapping[str, str]) -> None:
    # What was seen is a convenience; where it can't be kept, the table is still true.
    with suppress(OSError):
        cache_dir().mkdir(parents=True, exist_ok=True)
        replace_json(cache_dir() / _SEEN, dict(seen))
