"""Writes the table of the doctor's rules into its page: ``python -m edgekit.doctor.rule_table docs/doctor.md``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit.converters.doctor.onnx_rules import RULES as ONNX_RULES
from edgekit.converters.doctor.rule import Rule
from edgekit.converters.doctor.tflite_rules import RULES as TFLITE_RULES

BEGIN, END = "<!-- rules: begin -->", "<!-- rules: end -->"


def make_rule_tables() -> str:
    """Returns a table for each kind of file, in Markdown."""
    parts = []
    for kind, rules in (("ONNX", ONNX_RULES), ("TensorFlow Lite", TFLITE_RULES)):
        rows = [f"### {kind}", "", "| fault | what it is | `--fix` | source |", "|---|---|---|---|"]
        rows += [_row(rule) for rule in _sorted(rules)]
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


def insert_tables(page: str) -> str:
    """Returns ``page`` with the tables of today between its two marks.

    Raises:
        ValueError: A mark is missing.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n{make_rule_tables()}\n{END}{after}"


def _sorted(rules: Sequence[Rule[Any]]) -> list[Rule[Any]]:
    return sorted(rules, key=lambda rule: rule.id)


def _row(rule: Rule[Any]) -> str:
    fix = "no"
    if rule.promise is not None:
        _, _, how = (inspect.getdoc(type(rule)) or "").partition("Fix")
        how = " ".join(how.split("\n\n")[0].split()).lstrip(",: ")
        fix = f"{how[:1].upper()}{how[1:]} Promise: {rule.promise.words}."
    return f"| `{rule.id}` | {rule.says} | {fix} | [source]({rule.source}) |"


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(insert_tables(file.read_text(encoding="utf-8")), encoding="utf-8")
