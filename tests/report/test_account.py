"""A report's JSON, its place in the terminal, and that its figures are those of `edgekit.promise`."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_reports import HOSTILE, make_report, make_scores

from edgekit.agreement import Difference, Proportion
from edgekit.findings.parts import compare_parts
from edgekit.promise import Discordant, promise_drop
from edgekit.report import SCHEMA, parse_report, read_report
from edgekit.targets.errors import EdgekitError


def test_json_is_read_back(report, tmp_path):
    assert parse_report(report.to_json()) == report
    file = report.save_json(tmp_path / "report.json")
    assert read_report(file) == report
    assert read_report(file).to_html() == report.to_html()
    table = json.loads(file.read_text())
    assert table["schema"] == SCHEMA
    assert set(table) >= set(vars(report))


@settings(deadline=None, max_examples=20)
@given(st.text(max_size=30))
def test_json_of_any_names_is_read_back(name):
    report = make_report(name)
    assert parse_report(report.to_json()) == report


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.pop("sizes"), "'report' lacks the key 'sizes'"),
        (lambda table: table.update(sizes={}), "'report.sizes' must be a list"),
        (lambda table: table.update(schema=99), "schema 99"),
        (lambda table: table.update(model=3), "'report.model' must be a string, not 3"),
        (
            lambda table: table["sizes"][0].update(bytes="x"),
            r"'report.sizes\[0\].bytes' must be a whole number",
        ),
        (
            lambda table: table["layers"][0].update(noise_db=[]),
            r"'report.layers\[0\].noise_db' must be a number",
        ),
        (lambda table: table["agreement"].update(count=99), "'report.agreement': not a proportion"),
        (lambda table: table.pop("source_digest"), "is no report: it has no key 'source_digest'"),
        (
            lambda table: table["evaluation"]["whole"].update(drop_interval=[0.1]),
            "must have 2 items, not 1",
        ),
    ],
)
def test_what_is_no_report_is_refused(report, tmp_path, change, message):
    table = report.to_dict()
    change(table)
    file = tmp_path / "r.json"
    file.write_text(json.dumps(table))
    with pytest.raises(EdgekitError, match=f"r.json: .*{message}"):
        read_report(file)


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"{", b"\xff\xfe", b'"x"', b"[" * 100_000])
def test_other_files_are_refused(tmp_path, content):
    file = tmp_path / "r.json"
    file.write_bytes(content)
    with pytest.raises(EdgekitError, match=r"r\.json: is no report"):
        read_report(file)


def test_the_terminal_shows_names_as_they_are(hostile):
    text = " ".join(str(hostile).split())
    assert "[red]" in text
    assert "undecided" in text
    assert "McNemar's exact test" in text
    assert "the worst 5 of 10" in text


def test_figures_are_those_of_the_promises():
    reference, candidate, answers = make_scores(seed=7)
    evaluation = compare_parts(reference, candidate, measure="", answers=answers)
    whole = evaluation.whole
    promise = promise_drop(reference, candidate, 0.0, confidence=0.975)
    assert whole.drop_interval == (promise.lower, promise.upper)
    assert whole.drop == promise.drop
    assert whole.mcnemar == Discordant.of(reference, candidate).mcnemar
    right = Proportion(int(candidate.sum()), candidate.size)
    assert whole.candidate_interval == right.interval
    assert whole.to_dict()["mcnemar"] == whole.mcnemar
    for part in evaluation.classes:
        of = answers == int(part.name.removeprefix("class "))
        assert part.samples == of.sum()
        assert part.drop_interval == Difference.of(reference[of] == 1, candidate[of] == 1).interval
        assert part.mcnemar == Discordant.of(reference[of], candidate[of]).mcnemar


def test_the_worst_comes_first():
    reference, candidate, answers = make_scores()
    groups = {"light": ["day" if answer < 5 else "night" for answer in answers]}
    evaluation = compare_parts(
        reference, candidate, measure="", answers=answers, labels=["zero"], groups=groups
    )
    for parts in (evaluation.classes, evaluation.groups["light"]):
        shares = [part.candidate for part in parts]
        assert shares == sorted(shares)
        assert sum(part.samples for part in parts) == len(answers)
    assert {part.name for part in evaluation.classes} == {"zero"} | {
        f"class {number}" for number in range(1, 10)
    }
    assert [part.name for part in evaluation.groups["light"]] == ["night", "day"]


def test_scores_that_are_not_right_or_wrong():
    random = np.random.default_rng(0)
    reference = random.random(200)
    candidate = np.clip(reference - 0.01, 0, 1)
    evaluation = compare_parts(reference, candidate, measure="", groups={"g": ["a", "b"] * 100})
    promise = promise_drop(reference, candidate, 0.0, confidence=0.975)
    assert evaluation.whole.drop_interval == (promise.lower, promise.upper)
    assert evaluation.whole.mcnemar is None
    assert evaluation.whole.candidate_interval is None
    assert not evaluation.classes
    report = make_report(HOSTILE, evaluation=evaluation)
    assert parse_report(report.to_json()) == report
    assert "betting" in report.to_html()
    assert "McNemar's exact test" not in str(report)


def test_a_subgroup_for_each_sample():
    reference, candidate, _ = make_scores()
    with pytest.raises(EdgekitError, match="'light' names the subgroup of 1 samples"):
        compare_parts(reference, candidate, measure="", groups={"light": ["day"]})
