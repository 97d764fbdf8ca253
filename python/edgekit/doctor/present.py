"""Shows a diagnosis on a terminal."""

from __future__ import annotations

from rich.console import Console

from edgekit.doctor.examine import Diagnosis
from edgekit.report import make_table

_SHOWN = 3


def print_diagnosis(console: Console, diagnosis: Diagnosis) -> None:
    """Prints a row for each finding, then what was fixed."""
    if diagnosis.findings:
        table = make_table("", "fault", "where", "what", "cost", "remedy")
        for column in table.columns:
            column.no_wrap = column.header == "fault"
        for item in diagnosis.findings:
            finding = item.finding
            more = len(finding.nodes) - _SHOWN
            where = "\n".join(
                [*finding.nodes[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
            )
            cost = str(item.cost) + (" (all of this kind)" if item.shared else "")
            remedy = finding.remedy + (
                f"; --fix does it ({item.promise})" if finding.fixable else ""
            )
            table.add_row(
                finding.rule, where, finding.message, f"{cost}\n{item.cost.basis}", remedy
            )
        console.print(table, markup=False, highlight=False)
    count = len(diagnosis.findings)
    found = "no fault found" if not count else f"{count} fault{'s' if count > 1 else ''}"
    console.print(
        f"{diagnosis.path}: {found}, for {diagnosis.target}; run on {diagnosis.samples}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    mending = diagnosis.mending
    if mending is None:
        return
    for rule, count in mending.applied.items():
        console.print(f"fixed: {rule}, {count}", markup=False, highlight=False)
    for rule, reason in mending.refused.items():
        console.print(f"not fixed: {rule}: {reason}", markup=False, highlight=False, soft_wrap=True)
    for finding in mending.left:
        console.print(
            f"left: {finding.rule}: {finding.message}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"written to {mending.path}", markup=False, highlight=False, soft_wrap=True)
