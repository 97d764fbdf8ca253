"""Runs ONNX's own cases through the native runtime and counts them; writes the table of operators from what it saw."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from cases import FAILED, KINDS, PASSED, SKIPPED, Result, load_cases, run_case

TABLE = Path(__file__).parents[2] / "docs" / "operators.md"
# What every refusal of a node ends with.
_REMEDY = ", so the native form cannot hold it"
_HEAD = """# Operators of the native form

<!-- Written by `make conformance`. -->

What became of ONNX's own cases (`onnx.backend.test` of onnx {version}: {kinds}) in the native form, every layer in
float32 or, where the model is of codes, with these. An operator is listed with the cases whose model holds it; a case
of several operators counts for each. Nothing is skipped by a list: where a case was, the reason is the error with
which the converter refuses the model, and the one given most often is quoted.

A plan is laid out before any input is seen, so weights, shapes and axes that a case hands over as inputs become
constants of the plan ("bound"); the first input never does. Which operators int8 can hold is told by
[quantization.md](quantization.md) and [arithmetic.md](arithmetic.md).

| cases | passed | of them bound | skipped | failed |
|---|---|---|---|---|
"""


def run_cases(kinds: Iterable[str], only: str = "") -> Iterator[Result]:
    """Yields what becomes of each case whose name holds ``only``."""
    for kind in kinds:
        for case in load_cases(kind):
            if only in case.name:
                yield run_case(case)


def count(results: Iterable[Result]) -> str:
    """Returns the numbers of a row: passed, bound, skipped, failed."""
    results = list(results)
    counts = Counter(result.outcome for result in results)
    bound = sum(result.outcome == PASSED and result.bound > 0 for result in results)
    return f"{counts[PASSED]} | {bound} | {counts[SKIPPED]} | {counts[FAILED]}"


def make_table(results: list[Result], version: str) -> str:
    """Returns the page docs/operators.md."""
    kinds = list(dict.fromkeys(result.kind for result in results))
    lines = [_HEAD.format(version=version, kinds=", ".join(kinds)).rstrip("\n")]
    for kind in kinds:
        lines.append(f"| {kind} | {count(r for r in results if r.kind == kind)} |")
    lines.append(f"| **all** | {count(results)} |")
    by_operator: dict[str, list[Result]] = {}
    for result in results:
        for operator in result.operators:
            by_operator.setdefault(operator, []).append(result)
    held = {
        op: found for op, found in by_operator.items() if any(r.outcome == PASSED for r in found)
    }
    lines += [
        "",
        "## Held",
        "",
        "| operator | passed | skipped | most often refused |",
        "|---|---|---|---|",
    ]
    lines += [_row(operator, held[operator]) for operator in sorted(held)]
    lines += ["", "## Not held", "", "| operator | skipped | refused |", "|---|---|---|"]
    for operator in sorted(by_operator.keys() - held.keys()):
        found = by_operator[operator]
        lines.append(f"| {operator} | {len(found)} | {_reason(found)} |")
    return "\n".join(lines) + "\n"


def _row(operator: str, results: list[Result]) -> str:
    counts = Counter(result.outcome for result in results)
    return f"| {operator} | {counts[PASSED]} | {counts[SKIPPED]} | {_reason(results)} |"


def _reason(results: Iterable[Result]) -> str:
    reasons = Counter(result.reason for result in results if result.outcome == SKIPPED)
    if not reasons:
        return ""
    most = max(reasons.values())
    reason = min(reason for reason, times in reasons.items() if times == most)
    return reason.partition(_REMEDY)[0].replace("|", "\\|")


def main() -> int:
    """Prints the counts, by kind and in all; returns 1 where a case failed."""
    import onnx

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=KINDS, help=f"of {', '.join(KINDS)}, debian")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--reasons", action="store_true", help="print why cases were skipped")
    parser.add_argument("--write", action="store_true", help="write docs/operators.md")
    arguments = parser.parse_args()
    results = []
    for kind in arguments.kinds:
        mine = list(run_cases([kind], arguments.only))
        passed, bound, skipped, failed = count(mine).split(" | ")
        print(
            f"{kind}: {passed} passed ({bound} of them with operands bound as constants), "
            f"{skipped} skipped, {failed} failed",
            flush=True,
        )
        results += mine
    for result in results:
        if result.outcome == FAILED or (arguments.reasons and result.outcome == SKIPPED):
            print(f"{result.outcome} {result.kind} {result.name}: {result.reason}")
    passed, bound, skipped, failed = count(results).split(" | ")
    print(f"all: {passed} passed ({bound} bound), {skipped} skipped, {failed} failed")
    if arguments.write:
        TABLE.write_text(make_table(results, onnx.__version__))
    return 1 if int(failed) else 0


if __name__ == "__main__":
    sys.exit(main())
