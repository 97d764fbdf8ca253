"""The devices of a fleet, whatever file names them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.delivery.ssh import SshAddress
from edgekit.targets.errors import EdgekitError

FOLDER_SCHEME = "dir://"
EVERYONE = "all"
NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.:-]{0,253}[A-Za-z0-9_])?")


@dataclass(frozen=True)
class FleetDevice:
    """A device of a fleet.

    Attributes:
        name: Its name in the inventory.
        address: Where it is: `ssh://...` or `dir:///...`.
        board: Name of its profile; None where only the device knows.
        groups: Every group that it is in, "all" left out.
        ssh_options: Further words for ssh.
        variables: What else the inventory says of it.
    """

    name: str
    address: str
    board: str | None = None
    groups: tuple[str, ...] = ()
    ssh_options: tuple[str, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise EdgekitError(f"'{self.name}' is no name of a device")
        if self.address.startswith(FOLDER_SCHEME):
            path = self.address[len(FOLDER_SCHEME) :]
            if not path.startswith("/") or not path.isprintable():
                raise EdgekitError(f"{self.address}: a folder's address looks like dir:///srv/root")
        else:
            SshAddress.parse(self.address)


@dataclass(frozen=True)
class Inventory:
    """The devices of a file, in its order.

    Attributes:
        path: The file.
        devices: All of them.
        groups: Names of the members of each group; "all" is not among them.
    """

    path: Path
    devices: tuple[FleetDevice, ...]
    groups: Mapping[str, tuple[str, ...]]

    def select(
        self, groups: Collection[str] = (), names: Collection[str] = ()
    ) -> tuple[FleetDevice, ...]:
        """Returns the devices of these groups and these names; all where nothing is named.

        Raises:
            EdgekitError: There is no such group or device, or nothing is left.
        """
        if not groups and not names:
            chosen = {device.name for device in self.devices}
        else:
            chosen = set()
            for group in groups:
                chosen |= set(self._members(group))
            for name in names:
                known = [device.name for device in self.devices]
                chosen.add(find_known(self.path, "device", name, known))
        selected = tuple(device for device in self.devices if device.name in chosen)
        if not selected:
            raise EdgekitError(f"{self.path}: there is no device to do anything with")
        return selected

    def _members(self, group: str) -> Sequence[str]:
        if group == EVERYONE:
            return [device.name for device in self.devices]
        return self.groups[find_known(self.path, "group", group, list(self.groups))]


def make_inventory(path: Path, devices: Sequence[FleetDevice]) -> Inventory:
    """Collects the groups of devices.

    Raises:
        EdgekitError: Two devices have the same name or address.
    """
    groups: dict[str, list[str]] = {}
    names: set[str] = set()
    homes: dict[str, str] = {}
    for device in devices:
        if device.name in names:
            raise EdgekitError(f"{path}: device '{device.name}' is there twice")
        names.add(device.name)
        other = homes.setdefault(device.address, device.name)
        if other != device.name:
            raise EdgekitError(
                f"{path}: '{other}' and '{device.name}' have the same address {device.address}"
            )
        for group in device.groups:
            groups.setdefault(group, []).append(device.name)
    return Inventory(path, tuple(devices), {name: tuple(groups[name]) for name in groups})


def resolve_identity(path: Path, identity: str) -> str:
    """Returns a private key's path as ssh takes it: one that is relative lies beside the inventory."""
    key = Path(identity).expanduser()
    return str(key if key.is_absolute() else path.parent.absolute() / key)


def find_known(path: Path, kind: str, name: str, known: Collection[str]) -> str:
    """Returns ``name``, which has to be among ``known``.

    Raises:
        EdgekitError: It is not; the message names the nearest.
    """
    if name in known:
        return name
    nearest = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean '{nearest[0]}'?" if nearest else f"there are: {', '.join(known)}"
    raise EdgekitError(f"{path}: no {kind} '{name}'; {meant}")
