"""What became of the answers: how many changed, and where: by class and by subgroup, the worst first."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.report.account import Account
from edgekit.report.evaluation import Compared, Evaluation, Interval
from edgekit.report.page.markup import (
    Column,
    Html,
    element,
    join,
    make_section,
    make_table,
)
from edgekit.report.words import format_decibels, format_interval, format_p, format_share

# Rows of a table that are shown at once; the others lie behind a line that opens them.
_SHOWN = 20
_WIDTH, _HEIGHT = 150, 22


def make_answers(report: Account) -> Html:
    """Returns how many answers changed, and what McNemar's test says of it."""
    facts = []
    evaluation = report.evaluation
    if evaluation:
        facts += _describe_whole(evaluation)
    if report.agreement:
        changed = report.agreement.total - report.agreement.count
        facts.append(
            f"Of {report.agreement.total} calibration samples, {changed} get another answer than from float "
            f"(same answer: {report.agreement})."
        )
    if report.snr_db is not None:
        facts.append(
            f"Answers over noise: {format_decibels(report.snr_db)} on calibration samples, for the output that "
            "suffers most."
        )
    if not evaluation:
        facts.append(
            "Accuracy by class and subgroup is not measured: that needs evaluate=Classification(samples, answers), "
            "or another measure that gives a score for each sample."
        )
    return make_section("answers", "Answers that changed", *(element("p", fact) for fact in facts))


def make_parts(evaluation: Evaluation) -> list[Html]:
    """Returns a section for the classes, and one for each grouping, if there are any."""
    sections = []
    if evaluation.classes:
        sections.append(_make_parts("classes", "By class", evaluation.classes, evaluation))
    for number, (name, parts) in enumerate(evaluation.groups.items()):
        sections.append(_make_parts(f"group-{number}", f"By {name}", parts, evaluation))
    return sections


def _describe_whole(evaluation: Evaluation) -> list[str]:
    whole = evaluation.whole
    facts = []
    if whole.changed:
        facts.append(
            f"The answer changed on {whole.changed} of the evaluation's samples; some of these were wrong before "
            "and after."
        )
    if whole.discordant and whole.mcnemar is not None:
        lost, gained = whole.discordant.more, whole.discordant.less
        facts.append(
            f"Float alone is right on {lost} samples, the deployed network alone on {gained}. McNemar's exact test "
            f"of both being right equally often: {format_p(whole.mcnemar)}, "
            f"{_judge(whole.mcnemar, lost, gained)}."
        )
    if whole.drop_interval:
        facts.append(
            f"Drop: {100 * whole.drop:+.2f} points, 95 % interval {format_interval(whole.drop_interval)}."
        )
    if evaluation.intervals:
        facts.append(f"How intervals were made: {evaluation.intervals}.")
    return facts


def _judge(p: float, lost: int, gained: int) -> str:
    if p >= 0.05:
        return "so that these samples do not tell the two apart"
    return "so that it lost" if lost > gained else "so that it gained"


def _make_parts(name: str, title: str, parts: Sequence[Compared], evaluation: Evaluation) -> Html:
    columns = [
        Column("name"),
        Column("samples", True),
        Column("float", True),
        Column("deployed", True),
        Column("share and 95 % interval"),
        Column("drop, points", True),
        Column("95 % of the drop", True),
        Column("changed", True),
        Column("McNemar", True),
    ]
    low = min((_low(part) for part in parts), default=0.0)
    rows = [_make_row(part, low) for part in parts]
    noun = "classes" if name == "classes" else "subgroups"
    most = max(parts, key=lambda part: part.drop)
    lead = f"{len(parts)} {noun}, the one of which the deployed network gets the smallest share right first."
    if most.drop > 0:
        lead += f" {most.name} lost most: {100 * most.drop:.2f} points of {most.samples} samples."
    caption = (
        f"{evaluation.measure}. Ring and grey line: float and its interval; disc and blue line: deployed; the scale "
        f"runs from {format_share(low, 0)} to 100 %."
    )
    content = [element("p", lead), make_table(caption, columns, rows[:_SHOWN])]
    if rows[_SHOWN:]:
        more = element("summary", f"the other {len(rows) - _SHOWN}")
        content.append(element("details", more, make_table(caption, columns, rows[_SHOWN:])))
    return make_section(name, title, *content)


def _make_row(part: Compared, low: float) -> list[str]:
    return [
        part.name,
        str(part.samples),
        format_share(part.reference),
        format_share(part.candidate),
        _draw(part, low),
        f"{100 * part.drop:+.2f}",
        format_interval(part.drop_interval),
        str(part.changed.count) if part.changed else "\u2013",
        format_p(part.mcnemar),
    ]


def _low(part: Compared) -> float:
    """Returns where a scale that shows all of ``part`` may begin, in tenths."""
    ends = [part.reference, part.candidate]
    ends += [
        end for span in (part.reference_interval, part.candidate_interval) for end in span or ()
    ]
    return max(0.0, int(10 * min(ends)) / 10)


def _draw(part: Compared, low: float) -> Html:
    """Returns both shares and their intervals on one line; the figures stand beside it."""

    def place(share: float) -> str:
        inside = (min(max(share, low), 1.0) - low) / max(1.0 - low, 1e-9)
        return f"{6 + inside * (_WIDTH - 12):.1f}"

    def span(interval: Interval | None, y: int, name: str) -> Html:
        if interval is None:
            return join([])
        ends = {"x1": place(interval[0]), "x2": place(interval[1])}
        return element("line", **ends, y1=str(y), y2=str(y), class_=name)

    return element(
        "svg",
        span(part.reference_interval, 7, "span before"),
        span(part.candidate_interval, 15, "span"),
        element("circle", cx=place(part.reference), cy="7", r="4", class_="before"),
        element("circle", cx=place(part.candidate), cy="15", r="4", class_="after"),
        width=str(_WIDTH),
        height=str(_HEIGHT),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        aria_hidden="true",
    )
