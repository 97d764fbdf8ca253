"""Ansible's inventories in YAML, and in the JSON that `ansible-inventory --list` and inventory scripts print."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.delivery.fleet.ansible_groups import AnsibleGroups
from edgekit.delivery.fleet.host_ranges import expand_ranges, split_port
from edgekit.targets.errors import EdgekitError

# Deeper than any inventory of people.
_MOST_LEVELS = 64


def read_data(path: Path, data: Any) -> AnsibleGroups:
    """Makes groups of what YAML or JSON holds.

    Raises:
        EdgekitError: It is no inventory; the message names the key.
    """
    if not isinstance(data, Mapping) or not data:
        raise EdgekitError(f"{path}: no inventory: a table of groups is expected")
    if "plugin" in data:
        raise EdgekitError(
            f"{path}: this configures Ansible's plugin {data['plugin']}, which only Ansible can run: give edgekit what "
            f"`ansible-inventory -i {path.name} --list` prints"
        )
    groups = AnsibleGroups(path)
    if _is_list(data):
        _read_list(groups, data)
    else:
        for name, body in data.items():
            _read_group(groups, None, name, body, 0)
    return groups


def _is_list(data: Mapping[Any, Any]) -> bool:
    """Returns whether groups list their hosts by name, as programs print them."""
    return "_meta" in data or any(
        isinstance(body, list)
        or (isinstance(body, Mapping) and isinstance(body.get("hosts"), list))
        for body in data.values()
    )


def _read_list(groups: AnsibleGroups, data: Mapping[Any, Any]) -> None:
    path = groups.path
    for name, body in data.items():
        if name == "_meta":
            continue
        _check_name(path, name)
        if isinstance(body, list):
            body = {"hosts": body}
        if not isinstance(body, Mapping):
            raise EdgekitError(f"{path}: '{name}' must be a table or a list")
        group = groups.add_group(name)
        for kind in ("hosts", "children"):
            rows = body.get(kind) or []
            if not isinstance(rows, list) or not all(isinstance(row, str) for row in rows):
                raise EdgekitError(f"{path}: '{name}.{kind}' must be a list of names")
            for row in rows:
                if kind == "hosts":
                    groups.add_host(name, row, {})
                else:
                    groups.add_child(name, row)
        group.variables |= _table(path, f"{name}.vars", body.get("vars"))
    meta = _table(path, "_meta", data.get("_meta"))
    for host, variables in _table(path, "_meta.hostvars", meta.get("hostvars")).items():
        own = _table(path, f"_meta.hostvars.{host}", variables)
        groups.hosts.setdefault(host, {}).update(own)


def _read_group(
    groups: AnsibleGroups, parent: str | None, name: Any, body: Any, level: int
) -> None:
    path = groups.path
    _check_name(path, name)
    if level > _MOST_LEVELS:
        raise EdgekitError(f"{path}: '{name}' is more than {_MOST_LEVELS} groups deep")
    group = groups.add_group(name)
    if parent is not None:
        groups.add_child(parent, name)
    body = _table(path, name, body)
    for key in body:
        if key not in ("hosts", "vars", "children"):
            raise EdgekitError(f"{path}: unknown key '{name}.{key}'; known: hosts, vars, children")
    group.variables |= _table(path, f"{name}.vars", body.get("vars"))
    for pattern, variables in _table(path, f"{name}.hosts", body.get("hosts")).items():
        own = dict(_table(path, f"{name}.hosts.{pattern}", variables))
        try:
            host, port = split_port(str(pattern))
            names = expand_ranges(host)
        except ValueError as error:
            raise EdgekitError(f"{path}: '{name}.hosts': {error}") from error
        for host_name in names:
            groups.add_host(name, host_name, own, port)
    for child, content in _table(path, f"{name}.children", body.get("children")).items():
        _read_group(groups, name, child, content, level + 1)


def _check_name(path: Path, name: Any) -> None:
    if not isinstance(name, str):
        raise EdgekitError(f"{path}: the group '{name}' needs a name in quotes")


def _table(path: Path, key: str, value: Any) -> Mapping[str, Any]:
    """Returns a table; one that is left empty, or a single name instead of a table, is one too."""
    if value is None:
        return {}
    if isinstance(value, str):
        return {value: None}
    if not isinstance(value, Mapping):
        raise EdgekitError(f"{path}: '{key}' must be a table")
    for name in value:
        if not isinstance(name, str):
            raise EdgekitError(f"{path}: '{key}.{name}' must be a text, in quotes")
    return value
