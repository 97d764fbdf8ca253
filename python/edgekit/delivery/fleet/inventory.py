"""The devices of a fleet, read from `fleet.toml` or from what Ansible reads.

[groups.cameras]
board = "rpi4"                    # the profile's name; a device that no one gives a board is asked
identity = "keys/cameras"         # ssh's private key, beside this file
variables = { site = "north" }

[groups.all-rooms]
children = ["cameras"]

[devices.hall]
address = "ssh://pi@hall.lan"
groups = ["cameras"]

[devices."cam[01:20]"]            # twenty devices; {name} is each one's
address = "ssh://pi@{name}.lan:2222/srv/edgekit"
groups = ["cameras"]
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.delivery.fleet.ansible_files import read_ansible
from edgekit.delivery.fleet.devices import (
    EVERYONE,
    NAME,
    FleetDevice,
    Inventory,
    make_inventory,
    resolve_identity,
)
from edgekit.delivery.fleet.host_ranges import expand_ranges
from edgekit.targets.errors import EdgekitError

_STRINGS = "an array of strings"
_DEVICE_KEYS = {
    "address": (str, "a string"),
    "groups": (list, _STRINGS),
    "board": (str, "a string"),
    "identity": (str, "a string"),
    "variables": (dict, "a table"),
}
_GROUP_KEYS = {
    "children": (list, _STRINGS),
    "board": (str, "a string"),
    "identity": (str, "a string"),
    "variables": (dict, "a table"),
}


def read_inventory(path: Path) -> Inventory:
    """Reads an inventory: TOML of edgekit's own, or INI, YAML or JSON of Ansible's.

    Raises:
        EdgekitError: The file cannot be read or breaks a rule; the message names file and key or line.
        ToolError: It is YAML, and PyYAML is missing.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise EdgekitError(f"{path}: not UTF-8: {error}") from error
    if path.suffix != ".toml":
        return read_ansible(path, text)
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise EdgekitError(f"{path}: not valid TOML: {error}") from error
    return _read_toml(path, table)


@dataclass(frozen=True)
class _Table:
    """A table of the file, checked against the keys that it may have."""

    path: Path
    key: str
    values: dict[str, Any]

    def error(self, key: str, what: str) -> EdgekitError:
        return EdgekitError(f"{self.path}: '{self.key}.{key}' {what}")

    def check(self, known: Mapping[str, tuple[type, str]]) -> None:
        for key, value in self.values.items():
            if key not in known:
                nearest = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean '{nearest[0]}'?" if nearest else f"known: {', '.join(known)}"
                raise EdgekitError(f"{self.path}: unknown key '{self.key}.{key}'; {hint}")
            kind, words = known[key]
            strings = not isinstance(value, list) or all(isinstance(item, str) for item in value)
            if not isinstance(value, kind) or not strings:
                raise self.error(key, f"must be {words}")

    def strings(self, key: str) -> list[str]:
        return list(self.values.get(key, ()))


def _read_toml(path: Path, table: Mapping[str, Any]) -> Inventory:
    for key in table:
        if key not in ("devices", "groups"):
            raise EdgekitError(f"{path}: unknown key '{key}'; known: devices, groups")
    groups = _read_tables(path, "groups", table.get("groups", {}), _GROUP_KEYS)
    rows = _read_tables(path, "devices", table.get("devices", {}), _DEVICE_KEYS)
    parents = _find_parents(groups)
    devices = []
    for pattern, row in rows.items():
        if "address" not in row.values:
            raise EdgekitError(f"{path}: the key '{row.key}.address' is missing")
        for group in row.strings("groups"):
            if group not in groups:
                raise row.error("groups", f"names '{group}', and there is no [groups.{group}]")
        try:
            names = expand_ranges(pattern)
        except ValueError as error:
            raise EdgekitError(f"{path}: '{row.key}': {error}") from error
        if len(names) > 1 and "{name}" not in row.values["address"]:
            raise row.error("address", "must have {name} in it, since it is for several devices")
        devices += [_make_device(path, name, row, groups, parents) for name in names]
    if not devices:
        raise EdgekitError(f"{path}: no devices: [devices.NAME] with an address adds one")
    return make_inventory(path, devices)


def _read_tables(
    path: Path, kind: str, tables: Any, known: Mapping[str, tuple[type, str]]
) -> dict[str, _Table]:
    if not isinstance(tables, dict):
        raise EdgekitError(f"{path}: '{kind}' must be a table of tables")
    rows = {}
    for name, values in tables.items():
        row = _Table(path, f"{kind}.{name}", values)
        if not isinstance(values, dict):
            raise EdgekitError(f"{path}: '{row.key}' must be a table")
        row.check(known)
        if kind == "groups" and (not NAME.fullmatch(name) or name == EVERYONE):
            raise EdgekitError(f"{path}: '{name}' is no name for a group")
        rows[name] = row
    return rows


def _find_parents(groups: Mapping[str, _Table]) -> dict[str, list[str]]:
    """Returns for each group those that it is in, the nearest first."""
    direct: dict[str, list[str]] = {name: [] for name in groups}
    for name, row in groups.items():
        for child in row.strings("children"):
            if child not in groups:
                raise row.error("children", f"names '{child}', and there is no [groups.{child}]")
            direct[child].append(name)
    found: dict[str, list[str]] = {}
    for name, row in groups.items():
        above: list[str] = []
        level = direct[name]
        while level:
            if name in level:
                raise row.error("children", "lead back to the group itself")
            fresh = list(dict.fromkeys(item for item in level if item not in above))
            above += fresh
            level = [parent for item in fresh for parent in direct[item]]
        found[name] = above
    return found


def _make_device(
    path: Path,
    name: str,
    row: _Table,
    groups: Mapping[str, _Table],
    parents: Mapping[str, list[str]],
) -> FleetDevice:
    own = row.strings("groups")
    members = list(dict.fromkeys([*own, *(above for group in own for above in parents[group])]))
    board = _inherit(path, name, "board", row, groups, members)
    identity = _inherit(path, name, "identity", row, groups, members)
    variables: dict[str, Any] = {}
    for group in reversed(members):
        variables |= groups[group].values.get("variables", {})
    try:
        return FleetDevice(
            name,
            row.values["address"].replace("{name}", name),
            board,
            tuple(members),
            ("-i", resolve_identity(path, identity)) if identity else (),
            variables | row.values.get("variables", {}),
        )
    except EdgekitError as error:
        raise EdgekitError(f"{path}: '{row.key}.address': {error}") from error


def _inherit(
    path: Path,
    name: str,
    key: str,
    row: _Table,
    groups: Mapping[str, _Table],
    members: Sequence[str],
) -> str | None:
    """Returns what a device says, or else its groups, which must agree."""
    if key in row.values:
        return str(row.values[key])
    said = {group: groups[group].values[key] for group in members if key in groups[group].values}
    if len(set(said.values())) > 1:
        words = " and ".join(f"groups.{group}.{key} = '{value}'" for group, value in said.items())
        raise EdgekitError(f"{path}: device '{name}' has {words}: give it a '{key}' of its own")
    return next(iter(said.values()), None)
