"""Hosts, groups and variables as Ansible understands them, and the devices that follow.

Precedence of variables, the later one wins: `all`, then the other groups of a host by their depth below `all`, by
`ansible_group_priority` (which group_vars cannot set) and by name; then the same from group_vars; then the host's own.
Source: "Using variables about hosts" of Ansible's documentation, "How variables are merged".
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.delivery.fleet.devices import (
    EVERYONE,
    FleetDevice,
    Inventory,
    make_inventory,
    resolve_identity,
)
from edgekit.delivery.ssh import DEFAULT_ROOT, SshAddress
from edgekit.targets.errors import EdgekitError

UNGROUPED = "ungrouped"
_PRIORITY = "ansible_group_priority"
# The first of these that a host has counts.
_HOST = ("ansible_host", "ansible_ssh_host")
_PORT = ("ansible_port", "ansible_ssh_port")
_USER = ("ansible_user", "ansible_ssh_user")
_KEY = ("ansible_ssh_private_key_file", "ansible_private_key_file")
_WORDS = ("ansible_ssh_common_args", "ansible_ssh_extra_args")


@dataclass
class Group:
    """A group of hosts.

    Attributes:
        hosts: Names of those that it lists itself.
        children: Names of groups whose hosts are its own too.
        variables: For each of its hosts.
        file_variables: The same from group_vars.
    """

    hosts: list[str] = field(default_factory=list)
    children: list[str] = field(default_factory=list)
    variables: dict[str, Any] = field(default_factory=dict)
    file_variables: dict[str, Any] = field(default_factory=dict)


@dataclass
class AnsibleGroups:
    """What an inventory says.

    Attributes:
        path: The file.
        groups: By name; `all` and `ungrouped` are always there.
        hosts: Each host's own variables, in the file's order.
    """

    path: Path
    groups: dict[str, Group] = field(
        default_factory=lambda: {EVERYONE: Group(), UNGROUPED: Group()}
    )
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add_group(self, name: str) -> Group:
        """Returns a group, which is made where there is none."""
        return self.groups.setdefault(name, Group())

    def add_host(
        self, group: str, name: str, variables: Mapping[str, Any], port: int | None = None
    ) -> None:
        """Adds a host to a group, or variables to a host. The port of its first mention counts."""
        if name not in self.hosts:
            self.hosts[name] = {} if port is None else {"ansible_port": port}
        self.hosts[name].update(variables)
        if name not in self.add_group(group).hosts:
            self.groups[group].hosts.append(name)

    def add_child(self, parent: str, child: str) -> None:
        """Puts a group into another.

        Raises:
            EdgekitError: They would hold each other.
        """
        self.add_group(parent)
        self.add_group(child)
        if parent in self._below(child):
            raise EdgekitError(f"{self.path}: the groups '{parent}' and '{child}' hold each other")
        if child not in self.groups[parent].children:
            self.groups[parent].children.append(child)

    def members(self) -> dict[str, set[str]]:
        """Returns the hosts of each group, with those of the groups in it."""
        found = {
            name: {host for group in self._below(name) for host in self.groups[group].hosts}
            for name in self.groups
        }
        grouped = {
            host
            for name, group in self.groups.items()
            for host in group.hosts
            if name not in (EVERYONE, UNGROUPED)
        }
        found[EVERYONE] = set(self.hosts)
        found[UNGROUPED] = set(self.hosts) - grouped
        return found

    def merge(self) -> dict[str, dict[str, Any]]:
        """Returns all variables of each host."""
        members = self.members()
        ranks = self._depths()
        order = sorted(
            (name for name in self.groups if name != EVERYONE),
            key=lambda name: (ranks[name], self._priority(name), name),
        )
        merged = {}
        for host, own in self.hosts.items():
            mine = [name for name in order if host in members[name]]
            found = dict(self.groups[EVERYONE].variables)
            for name in mine:
                found |= self.groups[name].variables
            found.pop(_PRIORITY, None)
            found |= self.groups[EVERYONE].file_variables
            for name in mine:
                found |= self.groups[name].file_variables
            merged[host] = found | own
        return merged

    def to_inventory(self) -> Inventory:
        """Returns the devices.

        Raises:
            EdgekitError: A variable that ssh depends on makes no sense; the message names host and variable.
        """
        members = self.members()
        names = [name for name in self.groups if name not in (EVERYONE, UNGROUPED)]
        devices = []
        for host, variables in self.merge().items():
            groups = tuple(name for name in names if host in members[name])
            try:
                devices.append(self._make_device(host, groups, variables))
            except EdgekitError as error:
                raise EdgekitError(f"{self.path}: host '{host}': {error}") from error
        if not devices:
            raise EdgekitError(f"{self.path}: no hosts in it")
        return make_inventory(self.path, devices)

    def _below(self, name: str) -> set[str]:
        """Returns a group and all that are in it."""
        found: set[str] = set()
        coming = [name]
        while coming:
            group = coming.pop()
            if group not in found:
                found.add(group)
                coming += self.groups[group].children
        return found

    def _depths(self) -> dict[str, int]:
        """Returns how far each group is below `all`, by the longest way."""
        depths = dict.fromkeys(self.groups, 1) | {EVERYONE: 0}
        for _ in self.groups:
            for name, group in self.groups.items():
                for child in group.children:
                    depths[child] = max(depths[child], depths[name] + 1)
        return depths

    def _priority(self, name: str) -> int:
        group = self.groups[name]
        said = group.variables.get(_PRIORITY, 1)
        try:
            return int(said)
        except (TypeError, ValueError) as error:
            raise EdgekitError(
                f"{self.path}: group '{name}': {_PRIORITY} is {said!r}, no number"
            ) from error

    def _make_device(
        self, host: str, groups: tuple[str, ...], variables: Mapping[str, Any]
    ) -> FleetDevice:
        root = _text(variables, "edgekit_root") or DEFAULT_ROOT
        options = []
        if key := _text(variables, *_KEY):
            options += ["-i", resolve_identity(self.path, key)]
        for name in _WORDS:
            options += shlex.split(_text(variables, name) or "")
        if _text(variables, "ansible_connection") == "local":
            address = f"dir://{root}"
        else:
            address = _make_address(
                _text(variables, *_HOST) or host,
                _text(variables, *_USER),
                _text(variables, *_PORT),
                root,
            )
        return FleetDevice(
            name=host,
            address=address,
            board=_text(variables, "edgekit_board"),
            groups=groups,
            ssh_options=tuple(options),
            variables=variables,
        )


def _make_address(host: str, user: str | None, port: str | None, root: str) -> str:
    place = f"[{host}]" if ":" in host else host
    login = f"{user}@" if user else ""
    door = f":{port}" if port else ""
    return str(SshAddress.parse(f"ssh://{login}{place}{door}{root}"))


def _text(variables: Mapping[str, Any], *names: str) -> str | None:
    """Returns the first of these variables that is there."""
    for name in names:
        value = variables.get(name)
        if value is None or value == "":
            continue
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise EdgekitError(f"{name} is {value!r}, which is neither text nor a number")
        if "{{" in str(value):
            raise EdgekitError(
                f"{name} is a template, which only Ansible can fill in: write what it stands for, or another file "
                "for edgekit"
            )
        return str(value)
    return None
