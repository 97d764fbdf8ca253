"""Ansible's INI inventories.

    ungrouped.lan
    [cameras]
    cam[01:20].lan:2222 ansible_user=pi site="north wing"   # a comment
    [cameras:vars]
    ansible_ssh_private_key_file = keys/cameras
    [all-rooms:children]
    cameras

Values are read as Python literals where they are such, and as text otherwise. Source: the documentation of the
inventory plugin `ansible.builtin.ini`.
"""

from __future__ import annotations

import ast
import re
import shlex
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.delivery.fleet.ansible_groups import UNGROUPED, AnsibleGroups
from edgekit.delivery.fleet.host_ranges import expand_ranges, split_port
from edgekit.targets.errors import EdgekitError

_SECTION = re.compile(r"\[([^:\]\s]+)(?::(\w+))?\]\s*(?:#.*)?")
_GROUP = re.compile(r"([^:\]\s]+)\s*(?:#.*)?")
_KINDS = ("hosts", "children", "vars")


def read_ini(path: Path, text: str) -> AnsibleGroups:
    """Reads an inventory.

    Args:
        path: The file's name, for messages.
        text: What it holds.

    Raises:
        EdgekitError: A line makes no sense, or names a group that is nowhere; the message has the line's number.
    """
    reader = _Reader(path, AnsibleGroups(path))
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped and stripped[0] not in "#;":
            reader.number = number
            reader.read_line(stripped)
    return reader.finish()


def parse_value(text: str) -> Any:
    """Returns what a value means.

    >>> parse_value("22"), parse_value("yes"), parse_value("'a b'"), parse_value("[1, 2]")
    (22, 'yes', 'a b', [1, 2])
    """
    try:
        with warnings.catch_warnings():
            # Of backslashes in what is no literal anyway.
            warnings.simplefilter("ignore", SyntaxWarning)
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


@dataclass
class _Reader:
    path: Path
    groups: AnsibleGroups
    number: int = 0
    section: str = UNGROUPED
    kind: str = "hosts"
    # Groups that a section declares, and lines that want one.
    declared: set[str] = field(default_factory=lambda: set(AnsibleGroups(Path()).groups))
    wanted: dict[str, int] = field(default_factory=dict)

    def error(self, what: str) -> EdgekitError:
        return EdgekitError(f"{self.path}:{self.number}: {what}")

    def read_line(self, line: str) -> None:
        if match := _SECTION.fullmatch(line):
            self.section, self.kind = match.group(1), match.group(2) or "hosts"
            if self.kind not in _KINDS:
                raise self.error(f"[{self.section}:{self.kind}]: known are {', '.join(_KINDS)}")
            self.groups.add_group(self.section)
            if self.kind == "vars":
                self.wanted.setdefault(self.section, self.number)
            else:
                self.declared.add(self.section)
        elif line.startswith("[") and line.endswith("]"):
            raise self.error(f"{line} is no section: [GROUP], [GROUP:children] or [GROUP:vars]")
        elif self.kind == "hosts":
            self._read_hosts(line)
        elif self.kind == "vars":
            key, equals, value = line.partition("=")
            if not equals:
                raise self.error(f"'{line}' is no KEY=VALUE")
            self.groups.groups[self.section].variables[key.strip()] = parse_value(value.strip())
        else:
            match = _GROUP.fullmatch(line)
            if match is None:
                raise self.error(f"'{line}' is no name of a group")
            self.wanted.setdefault(match.group(1), self.number)
            self.groups.add_child(self.section, match.group(1))

    def finish(self) -> AnsibleGroups:
        """Returns what was read."""
        for name, number in self.wanted.items():
            if name not in self.declared:
                self.number = number
                raise self.error(f"there is no group '{name}': [{name}] makes one")
        return self.groups

    def _read_hosts(self, line: str) -> None:
        try:
            pattern, *settings = shlex.split(line, comments=True)
            host, port = split_port(pattern)
            names = expand_ranges(host)
        except ValueError as error:
            raise self.error(str(error)) from error
        if pattern.startswith("---"):
            raise self.error("this begins as YAML does: name the file .yml")
        if host.endswith(":"):
            raise self.error(f"'{pattern}' ends in a colon, and has no port")
        variables = {}
        for setting in settings:
            key, equals, value = setting.partition("=")
            if not equals:
                raise self.error(f"'{setting}' is no KEY=VALUE")
            variables[key] = parse_value(value)
        for name in names:
            self.groups.add_host(self.section, name, variables, port)
