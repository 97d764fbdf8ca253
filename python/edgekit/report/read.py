"""Reads the JSON of a report again."""

from __future__ import annotations

import json
import types
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from edgekit.report.account import SCHEMA
from edgekit.report.figures import Accuracy, Latency
from edgekit.report.report import Report
from edgekit.targets.errors import EdgekitError


def read_report(path: str | Path) -> Report:
    """Reads what `Report.save_json` wrote.

    Raises:
        EdgekitError: The file is no report; names what is wrong with it.
        OSError: It cannot be read.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise EdgekitError(f"{path}: is no report: not UTF-8") from error
    try:
        return parse_report(text)
    except EdgekitError as error:
        raise EdgekitError(f"{path}: {error}") from error


def parse_report(text: str) -> Report:
    """Returns the report of which ``text`` is the JSON. Keys that follow from others are not read.

    Raises:
        EdgekitError: It is none; names what is wrong with it.
    """
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EdgekitError(f"is no report: no JSON: {error}") from error
    if not isinstance(table, dict) or "source_digest" not in table:
        raise EdgekitError("is no report: it has no key 'source_digest'")
    if table.get("schema") != SCHEMA:
        raise EdgekitError(
            f"is a report of schema {table.get('schema')!r}, and this version reads {SCHEMA}"
        )
    report: Report = _read(Report, table, "report")
    return report


def _read(kind: Any, value: Any, where: str) -> Any:
    """Returns ``value`` as a ``kind``, whose fields' types say what is in it."""
    origin, of = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        return None if value is None else _read(of[0], value, where)
    if origin is list:
        items = _check(value, list, where)
        return [_read(of[0], item, f"{where}[{index}]") for index, item in enumerate(items)]
    if origin is tuple:
        items = _check(value, list, where)
        kinds = of[:1] * len(items) if of[1:] == (...,) else of
        if len(items) != len(kinds):
            raise EdgekitError(f"'{where}' must have {len(kinds)} items, not {len(items)}")
        return tuple(_read(kind, item, where) for kind, item in zip(kinds, items, strict=True))
    if origin is dict:
        table = _check(value, dict, where)
        return {key: _read(of[1], item, f"{where}.{key}") for key, item in table.items()}
    if is_dataclass(kind) and isinstance(kind, type):
        return _read_record(kind, _check(value, dict, where), where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return _check(value, kind, where)


def _read_record(kind: type[Any], table: dict[str, Any], where: str) -> Any:
    """Returns a data class from what its ``to_dict`` gave."""
    if kind is Accuracy:
        table = {"float_value": table.get("float"), "int8_value": table.get("int8")}
    if kind is Latency:
        table = {"form": table.get("form"), "timing": table}
    hints = get_type_hints(kind)
    given = {}
    for field in fields(kind):
        if field.name in table:
            given[field.name] = _read(hints[field.name], table[field.name], f"{where}.{field.name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise EdgekitError(f"'{where}' lacks the key '{field.name}'")
    try:
        return kind(**given)
    except ValueError as error:
        raise EdgekitError(f"'{where}': {error}") from error


def _check(value: Any, kind: type[Any], where: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise EdgekitError(
            f"'{where}' must be {_NAMES.get(kind, kind.__name__)}, not {value!r:.60}"
        )
    return value


_NAMES = {
    dict: "a table",
    list: "a list",
    str: "a string",
    int: "a whole number",
    float: "a number",
}
