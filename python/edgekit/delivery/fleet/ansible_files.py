"""Which of Ansible's formats an inventory has, and the group_vars and host_vars beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgekit.delivery.fleet.ansible_data import read_data
from edgekit.delivery.fleet.ansible_groups import AnsibleGroups
from edgekit.delivery.fleet.ansible_ini import read_ini
from edgekit.delivery.fleet.devices import Inventory
from edgekit.targets.errors import EdgekitError, ToolError

_YAML_ENDINGS = (".yml", ".yaml")
_VARIABLE_ENDINGS = ("", *_YAML_ENDINGS, ".json")
# How YAML begins: a document's mark, or a key with something indented below it.
_YAML_START = re.compile(
    r"(?:\s*(?:#[^\n]*)?\n)*(?:---(?:\s|$)|[\w.-]+:[ \t]*(?:#[^\n]*)?\n[ \t]+\S)"
)
_VAULT = "$ANSIBLE_VAULT"
# Stands for what is locked, and is refused like anything else that only Ansible can fill in.
_LOCKED = "{{ locked by ansible-vault }}"


def read_ansible(path: Path, text: str) -> Inventory:
    """Reads an inventory of Ansible's with the variables beside it.

    Args:
        path: The file. `.yml`, `.yaml` and `.json` say what it is; the content of others does.
        text: What it holds.

    Raises:
        EdgekitError: It cannot be read; the message names file and line or key.
        ToolError: There is YAML, and PyYAML is missing.
    """
    return read_groups(path, text).to_inventory()


def read_groups(path: Path, text: str) -> AnsibleGroups:
    """Reads hosts, groups and variables. Arguments and errors are those of `read_ansible`."""
    _refuse_vault(path, text)
    if path.suffix == ".json" or text.lstrip().startswith("{"):
        groups = read_data(path, _parse_json(path, text))
    elif path.suffix in _YAML_ENDINGS or _YAML_START.match(text):
        groups = read_data(path, _parse_yaml(path, text))
    elif text.startswith("#!"):
        raise EdgekitError(
            f"{path}: this is a program: give edgekit what `ansible-inventory -i {path.name} --list` prints"
        )
    else:
        groups = read_ini(path, text)
    for name, group in groups.groups.items():
        group.file_variables.update(_read_variables(path.parent / "group_vars", name))
    for name, variables in groups.hosts.items():
        variables.update(_read_variables(path.parent / "host_vars", name))
    return groups


def _read_variables(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if not folder.is_dir() or "/" in name:
        return found
    for file in _find_variables(folder, name):
        text = file.read_text(encoding="utf-8")
        _refuse_vault(file, text)
        data = (
            _parse_json(file, text)
            if file.suffix == ".json" or text.lstrip().startswith("{")
            else _parse_yaml(file, text)
        )
        if not isinstance(data, dict | None):
            raise EdgekitError(f"{file}: must be a table of variables")
        found |= data or {}
    return found


def _find_variables(folder: Path, name: str) -> Iterator[Path]:
    """Yields the file of these variables, or the files of a folder of them, the later ones over the earlier."""
    for ending in _VARIABLE_ENDINGS:
        path = folder / (name + ending)
        if path.is_dir() and not ending:
            for file in sorted(path.rglob("*")):
                hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
                if file.is_file() and file.suffix in _VARIABLE_ENDINGS and not hidden:
                    yield file
            return
        if path.is_file():
            yield path
            return


def _refuse_vault(path: Path, text: str) -> None:
    if text.startswith(_VAULT):
        raise EdgekitError(
            f"{path}: locked by ansible-vault: give edgekit what `ansible-inventory --list --ask-vault-pass` prints"
        )


def _parse_json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EdgekitError(f"{path}: not valid JSON: {error}") from error


def _parse_yaml(path: Path, text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ToolError(
            f"{path}: reading YAML needs PyYAML: pip install 'edgekit[fleet]'; or give edgekit what "
            "`ansible-inventory --list` prints"
        ) from error

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Knows the two tags of Ansible's own."""

    Loader.add_constructor("!vault", lambda loader, node: _LOCKED)
    Loader.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise EdgekitError(f"{path}: not valid YAML: {error}") from error
