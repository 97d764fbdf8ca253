"""`split`: one network, quantized once and whole, over two devices."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bundles.bundle import Bundle, read_bundle
from edgekit.bundles.golden import read_array
from edgekit.bundles.manifest import write_json
from edgekit.converters.program import Program
from edgekit.converters.split_program import find_crossing, is_closed, split_program
from edgekit.deployment import deploy
from edgekit.partition.cuts import Cut, list_heads, rate_cut
from edgekit.partition.folder import HEAD, SUMMARY, TAIL, TAIL_PLAN
from edgekit.partition.side import Part, Side, make_part, time_side, write_part
from edgekit.partition.wire import Wire
from edgekit.replace_folder import replace_folder
from edgekit.report import Report
from edgekit.targets.errors import EdgekitError, ModelError
from edgekit.targets.profile import Profile, load_profile

# The key of the head's plan under which it names the SHA-256 of the plan that its outputs are for.
NEXT_KEY = "next"
_SHOWN = 8
_MOST_TENSORS = 4
_OWN = ("target", "format", "output", "states", "labels", "sign_with", "release", "onnx_style")


@dataclass(frozen=True)
class Option:
    """A row of the table of cuts.

    Attributes:
        name: "all on A", "all on B", or the operators behind which is cut.
        cut: Its cost.
    """

    name: str
    cut: Cut

    def to_dict(self) -> dict[str, Any]:
        """Returns the row in a form that JSON can hold; times are in microseconds."""
        return {
            "cut": self.name,
            "crossing": list(self.cut.crossing),
            "sent_bytes": self.cut.sent_bytes,
            "answer_bytes": self.cut.answer_bytes,
            "head_us": round(self.cut.head_us, 1),
            "link_us": round(self.cut.link_us, 1),
            "tail_us": round(self.cut.tail_us, 1),
            "total_us": round(self.cut.total_us, 1),
        }


@dataclass(frozen=True)
class Summary:
    """Why a network was cut where it was.

    Attributes:
        options: The best cuts, and all on either device, the cheapest first.
        chosen: One of them.
        sides: Both devices, with how their times were had.
        wire: What lies between.
        notes: What a person should know.
    """

    options: Sequence[Option]
    chosen: Option
    sides: tuple[Side, Side]
    wire: Wire
    notes: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """Returns what ``split.json`` holds."""
        return {
            "between": [side.profile.name for side in self.sides],
            "times": [side.how for side in self.sides],
            "bits_per_s": self.wire.bits_per_s,
            "latency_ms": self.wire.latency_ms,
            "chosen": self.chosen.to_dict(),
            "options": [option.to_dict() for option in self.options],
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Split:
    """A network in two parts.

    Attributes:
        path: The folder that holds both bundles and ``split.json``.
        head: The bundle for the first device.
        tail: The bundle for the second.
        summary: Why it was cut there.
        report: Of the whole network, as `deploy` made it for the first device.
    """

    path: Path
    head: Bundle
    tail: Bundle
    summary: Summary
    report: Report


def split(
    model: Any,
    *,
    between: tuple[str | Path, str | Path],
    link: str | Wire,
    latency: str = "0ms",
    output: str | Path = "split",
    at: str | None = None,
    most_tensors: int = _MOST_TENSORS,
    **options: Any,
) -> Split:
    """Quantizes a model as a whole, cuts it at the best place for a link, and writes a bundle for each device.

    Both bundles together compute the bytes of the whole: operators, grids and codes are the same, and what crosses is
    codes on the head's grid, which is the tail's.

    Args:
        model: As `deploy` takes it.
        between: The devices: the one that has the inputs and wants the answer, and the one that helps. Names or files
            of profiles; "host" is this machine, whose times are measured; others are modelled from their profiles.
        link: Speed of the link, such as ``"10Mbit/s"``, or a `Wire`.
        latency: The link's round trip, such as ``"5ms"``.
        output: A folder that is free, or one that this call made before.
        at: The operator, or the tensor, behind which to cut, in place of the cheapest cut: what it needs is the head.
        most_tensors: How many tensors may cross.
        **options: Of `deploy`: ``calibration``, ``preprocessing``, ``shapes``, ``precision`` and their like.

    Raises:
        EdgekitError: An argument is out of its range, or the folder holds something else.
        ModelError: There is nothing to cut, or no operator of that name.
        CalibrationError, TargetError, ToolError: As `deploy`.
    """
    wire = link if isinstance(link, Wire) else Wire.parse(link, latency)
    if len(between) != 2:
        raise EdgekitError(f"between names two devices, not {between!r}")
    if taken := [name for name in _OWN if name in options]:
        raise EdgekitError(f"{', '.join(taken)}: not to be given for a network in two parts")
    if isinstance(options.get("shapes"), list):
        raise EdgekitError("a network in two parts has one size: give shapes for one")
    if not isinstance(most_tensors, int) or most_tensors < 1:
        raise EdgekitError(f"most_tensors must be a whole number from 1 on, not {most_tensors!r}")
    output = Path(output)
    _check_output(output)
    profiles = (load_profile(between[0]), load_profile(between[1]))
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        deployment = deploy(
            model, target=between[0], format="native", output=Path(folder) / "whole", **options
        )
        assert deployment.program is not None
        program = deployment.program
        whole = read_bundle(deployment.path)
        inputs = {name: read_array(file) for name, file in whole.inputs.items()}
        first, second = (time_side(program, profile, inputs) for profile in profiles)
        table, notes = _rate(program, first, second, wire, most_tensors)
        chosen = _choose(program, table, at, first, second, wire)
        head, tail = _make_parts(
            split_program(program, chosen.cut.head),
            profiles,
            inputs,
            Path(folder),
            deployment.report.source_digest,
        )
        _check_equal(whole, tail.outputs)
        notes += _compare(chosen, table)
        summary = Summary(_shown(table, chosen), chosen, (first, second), wire, notes)
        with replace_folder(output) as place:
            facts = {"cut": chosen.name, "crossing": list(chosen.cut.crossing)}
            of_head = {**facts, "part": HEAD, TAIL_PLAN: _digest(tail.plan)}
            write_part(place / HEAD, head, profiles[0], whole, of_head)
            write_part(place / TAIL, tail, profiles[1], whole, {**facts, "part": TAIL})
            write_json(place / SUMMARY, summary.to_dict())
    return Split(
        output, read_bundle(output / HEAD), read_bundle(output / TAIL), summary, deployment.report
    )


def _make_parts(
    parts: tuple[Program, Program],
    profiles: tuple[Profile, Profile],
    inputs: Mapping[str, Any],
    folder: Path,
    source_digest: str,
) -> tuple[Part, Part]:
    """Returns both parts; the head's plan names the tail's by its digest."""
    make = partial(make_part, source_digest=source_digest)
    unnamed = make(parts[0], profiles[0], inputs, folder / "unnamed", metadata={})
    tail = make(parts[1], profiles[1], unnamed.outputs, folder / TAIL, metadata={})
    head = make(
        parts[0], profiles[0], inputs, folder / HEAD, metadata={NEXT_KEY: _digest(tail.plan)}
    )
    return head, tail


def _check_output(output: Path) -> None:
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise EdgekitError(f"{output}: not overwritten: it is no folder. Choose another output.")
    if output.is_dir() and any(output.iterdir()):
        names = {entry.name for entry in output.iterdir()}
        if names != {HEAD, TAIL, SUMMARY}:
            raise EdgekitError(
                f"{output}: not overwritten: it holds something else than a split network. "
                "Choose another output folder or empty it."
            )


def _digest(plan: Path) -> str:
    return hashlib.sha256(plan.read_bytes()).hexdigest()


def _rate(
    program: Program, first: Side, second: Side, wire: Wire, most_tensors: int
) -> tuple[list[Option], list[str]]:
    """Returns every cut with its cost, the cheapest first, and what to know of them."""
    search = list_heads(program, most_tensors)
    everything = range(len(program.ops))
    heads = [frozenset(), *search.heads, frozenset(everything)]
    table = [
        Option(
            name_cut(program, head),
            rate_cut(program, head, first.operator_us, second.operator_us, wire),
        )
        for head in heads
    ]
    table.sort(key=lambda option: option.cut.total_us)
    notes = []
    if not search.is_complete:
        notes.append(
            "the network has very many cuts: only those in the order of execution were tried"
        )
    if {first.how, second.how} == {"measured", "modelled"}:
        notes.append(
            "one device's times are measured, the other's modelled from its profile for one core: sums of both say "
            "which cut is better, and are no forecast"
        )
    return table, notes


def name_cut(program: Program, head: frozenset[int]) -> str:
    """Returns the operators of the head that the tail reads from, in words."""
    if len(head) == len(program.ops):
        return "all on the first"
    if not head:
        return "all on the second"
    crossing = set(find_crossing(program, head))
    names = [
        program.ops[index].name for index in sorted(head) if program.ops[index].output in crossing
    ]
    return "after " + ", ".join(names) if names else "beside " + program.ops[max(head)].name


def _choose(
    program: Program, table: Sequence[Option], at: str | None, first: Side, second: Side, wire: Wire
) -> Option:
    """Returns the cheapest cut, or the one behind ``at``."""
    if at is None:
        cuts = [option for option in table if 0 < len(option.cut.head) < len(program.ops)]
        if not cuts:
            raise ModelError("the network cannot be cut: more tensors cross than are allowed")
        return cuts[0]
    found = [index for index, op in enumerate(program.ops) if at in (op.name, op.output)]
    if not found:
        names = ", ".join(op.name for op in program.ops)
        raise ModelError(f"no operator or tensor is called '{at}': there are {names}")
    writer = {op.output: index for index, op in enumerate(program.ops)}
    head: set[int] = set()
    stack = [found[-1]]
    while stack:
        index = stack.pop()
        if index not in head:
            head.add(index)
            stack += [writer[name] for name in program.ops[index].inputs if name in writer]
    assert is_closed(program, head)
    if len(head) == len(program.ops):
        raise ModelError(f"nothing is left behind '{at}'")
    cut = rate_cut(program, head, first.operator_us, second.operator_us, wire)
    return Option(name_cut(program, frozenset(head)), cut)


def _shown(table: Sequence[Option], chosen: Option) -> list[Option]:
    """Returns the rows that a person wants to see."""
    rows = [
        option
        for rank, option in enumerate(table)
        if rank < _SHOWN or option.name.startswith("all on") or option == chosen
    ]
    if chosen not in rows:
        rows.append(chosen)
    return sorted(rows, key=lambda option: option.cut.total_us)


def _compare(chosen: Option, table: Sequence[Option]) -> list[str]:
    best = table[0]
    if best.cut.total_us >= chosen.cut.total_us:
        return []
    share = 100 * (chosen.cut.total_us / best.cut.total_us - 1)
    return [f"'{best.name}' would take less: this cut takes {share:.0f} % longer"]


def _check_equal(whole: Bundle, outputs: Mapping[str, Any]) -> None:
    """Checks what both parts computed of the golden inputs against the whole.

    Raises:
        ModelError: It differs; the cut would be wrong.
    """
    for name, file in whole.outputs.items():
        if not np.array_equal(read_array(file), outputs[name], equal_nan=True):
            raise ModelError(
                f"the parts compute another '{name}' than the whole: nothing was written"
            )
