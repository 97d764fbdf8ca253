"""What `make accuracy` counts with: intervals, edits, boxes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accuracy_table import list_rows
from comparing import ComparedSession, read_largest
from descriptions import SECTIONS, fit
from edgekit.data import InputSpec
from edgekit.promise import Scored
from edgekit.session import Session
from edgekit.targets.errors import EdgekitError
from filetypes import make_codes
from intervals import area_under_curve, measure_loss, ratio_of_sums, share, share_of
from labelled import Area, Labels, Mean, find_measure
from reading import count_edits, find_boxes
from remembered import Measured, RememberedSession, make_key, recall
from wordpiece import WordPieces

SCORES = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=12)


@given(count=st.integers(1, 500), part=st.floats(0, 1))
def test_share_lies_in_its_interval_which_narrows(count, part):
    hits = round(part * count)
    figure = share("right", hits, count, "images")
    assert 0 <= figure.low <= figure.value <= figure.high <= 1
    wider = figure.high - figure.low
    more = share("right", 4 * hits, 4 * count, "images")
    assert more.high - more.low < wider


def test_share_of_nothing_says_nothing():
    figure = share("right", 0, 0, "images")
    assert np.isnan(figure.value)
    assert (figure.low, figure.high) == (0.0, 1.0)


@given(positive=SCORES, negative=SCORES)
def test_area_is_that_of_all_pairs(positive, negative):
    wins = [(a > b) + (a == b) / 2 for a in positive for b in negative]
    figure = area_under_curve("area", positive, negative, "clips")
    assert figure.value == pytest.approx(np.mean(wins))
    assert figure.low <= figure.value <= figure.high
    assert figure.low < 1


def test_ratio_is_of_the_sums_not_the_mean_of_ratios():
    figure = ratio_of_sums("errors", [0, 9], [1, 9], "lines", errors=True)
    assert figure.value == pytest.approx(0.9)
    assert (figure.low, figure.high) == (0.0, 1.0)
    assert not figure.higher_is_better


@settings(max_examples=20, deadline=None)
@given(right=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_loss_is_that_of_pairs(right):
    before, after = (share_of("right", [pair[i] for pair in right], "images") for i in (0, 1))
    loss = measure_loss(before, after)
    assert loss.value == pytest.approx(before.value - after.value)
    assert loss.low <= loss.value + 1e-9
    assert loss.high >= loss.value - 1e-9
    back = measure_loss(after, before)
    assert (back.low, back.high) == pytest.approx((-loss.high, -loss.low))
    if before.evidence.parts.tolist() == after.evidence.parts.tolist():
        # Pairs that are equal leave nothing to chance, however few there are.
        assert (loss.low, loss.high) == (0, 0)


def test_loss_of_errors_is_positive_where_there_are_more():
    before = ratio_of_sums("errors", [0, 1] * 50, [5] * 100, "lines", errors=True)
    after = ratio_of_sums("errors", [2, 1] * 50, [5] * 100, "lines", errors=True)
    loss = measure_loss(before, after)
    assert loss.value == pytest.approx(0.2)
    assert loss.low > 0
    assert measure_loss(before, share("right", 1, 2, "lines")) is None
    assert measure_loss(before, ratio_of_sums("errors", [1], [5], "lines")) is None


def test_loss_of_areas_is_that_of_pairs():
    scores = np.random.default_rng(0).normal(size=80)
    before = area_under_curve("area", scores[:40] + 2, scores[40:], "clips")
    after = area_under_curve("area", scores[:40] + 0.5, scores[40:], "clips")
    loss = measure_loss(before, after)
    assert 0 < loss.low < loss.value < loss.high
    same = measure_loss(before, before)
    assert (same.value, same.low, same.high) == (0, 0, 0)


class _Fixed(Session):
    """Answers with a matrix times its input."""

    def __init__(self, matrix):
        self.path, self.threads, self.outputs = None, 1, ["y"]
        self.inputs = [InputSpec("x", (1, None), "float32")]
        self.matrix = np.array(matrix, np.float32)

    def _run(self, inputs):
        return {"y": inputs["x"] @ self.matrix}


def test_answers_are_compared_on_what_was_asked():
    compared = ComparedSession(_Fixed([[1, 0], [0, 0.9]]), _Fixed([[1, 0], [0, 1]]), read_largest)
    for row in ([[1, 0]], [[0, 1]], [[0.95, 1]]):
        compared.run({"x": np.array(row, np.float32)})
    assert (compared.same, compared.answers) == (2, 3)
    assert compared.agreement.value == pytest.approx(2 / 3)
    # Of the powers 1, 1, 1.9025 the second and the third answer lose .01 each.
    assert compared.snr_db == pytest.approx(10 * np.log10(3.9025 / 0.02), abs=1e-4)
    assert ComparedSession(_Fixed([[1]]), _Fixed([[1]]), None).agreement is None


def test_answers_that_are_not_finite_are_worth_nothing():
    compared = ComparedSession(_Fixed([[np.nan]]), _Fixed([[1]]), None)
    compared.run({"x": np.ones((1, 1), np.float32)})
    assert compared.snr_db == -300


def test_rows_of_the_table_name_who_has_which_figure():
    figure = share_of("right", [True, False], "photos").to_dict()
    worse = share_of("right", [False, False], "photos")
    loss = measure_loss(share_of("right", [True, False], "photos"), worse)
    result = {
        "figures": [worse.to_dict()],
        "losses": [vars(loss)],
        "agreement": share("agreement", 1, 2, "answers").to_dict(),
        "snr_db": 12.34,
    }
    contestants = {"float": {"figures": [figure]}, "a": result, "b": {"reason": "no"}}
    rows = list(list_rows([{"network": "net", "contestants": contestants}]))
    assert [row[2] for row in rows] == ["float", "a"]
    assert rows[1][4].startswith("+50.00 [")
    assert rows[1][5:] == ("0.5000", "12.3")


@given(a=st.text("abc", max_size=8), b=st.text("abc", max_size=8))
def test_edits_are_a_distance(a, b):
    edits = count_edits(a, b)
    assert edits == count_edits(b, a)
    assert (edits == 0) == (a == b)
    assert abs(len(a) - len(b)) <= edits <= max(len(a), len(b))


def test_boxes_are_found_and_grown():
    scores = np.zeros((60, 100), np.float32)
    scores[10:20, 10:50] = 0.9
    # Two arms that meet below: one region.
    scores[30:50, 60:64] = scores[30:50, 80:84] = scores[46:50, 60:84] = 1.0
    scores[55:57, 5:20] = 1.0
    scores[25:40, 10:40] = 0.35
    grown = 1.6 * 10 * 40 / 100
    (box,) = find_boxes(scores)
    assert box == pytest.approx((10 - grown, 10 - grown, 50 + grown, 20 + grown))
    scores[30:50, 60:84] = 1.0
    assert len(find_boxes(scores)) == 2
    assert find_boxes(np.zeros((5, 5), np.float32)) == []


def test_codes_of_a_file_are_its_ends_without_white_space():
    data = b" \n" + bytes(range(65, 91)) * 200 + b"\n\n"
    codes = make_codes(data)
    assert codes.shape == (1, 2048)
    assert codes.dtype == np.int32
    text = data.strip()
    assert bytes(codes[0, :1024].astype(np.uint8)) == text[:1024]
    assert bytes(codes[0, 1024:].astype(np.uint8)) == text[-1024:]


def test_codes_of_a_short_file_are_padded_between_both_ends():
    codes = make_codes(b" #!/bin/sh\n")[0]
    assert bytes(codes[:9].astype(np.uint8)) == bytes(codes[-9:].astype(np.uint8)) == b"#!/bin/sh"
    # Only what is before the first codes and behind the last ones is left out.
    assert (codes[9], codes[-10]) == (ord("\n"), ord(" "))
    assert (codes[10:-10] == 256).all()


def test_files_of_a_few_bytes_have_no_codes():
    assert make_codes(b" " * 5000) is None
    assert make_codes(b"\n1234567") is None


def test_words_are_cut_into_their_longest_pieces():
    known = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "un",
        "##aff",
        "##able",
        "##affable",
        ",",
        "the",
        "##s",
    ]
    sample = WordPieces(known, 12).read("Thé unaffables, xyz 中")
    pieces = [known[number] for number in sample["input_ids"][0]]
    cut = ["the", "un", "##affable", "##s", ",", "[UNK]", "[UNK]"]
    assert pieces == ["[CLS]", *cut, "[SEP]", "[PAD]", "[PAD]", "[PAD]"]
    assert sample["attention_mask"].tolist() == [[1] * 9 + [0] * 3]
    assert not sample["token_type_ids"].any()
    short = WordPieces(known, 4).read("the the the the")
    assert [known[number] for number in short["input_ids"][0]] == ["[CLS]", "the", "the", "[SEP]"]


def test_regression_learns_what_can_be_told_apart():
    random = np.random.default_rng(0)
    centres = random.normal(size=(len(SECTIONS), 24))
    labels = [number % len(SECTIONS) for number in range(200)]
    rows = [centres[label] + 0.1 * random.normal(size=24) for label in labels]
    rows = [row / np.linalg.norm(row) for row in rows]
    weights = fit(rows, labels)
    scores = np.stack(rows) @ weights[:-1] + weights[-1]
    assert (scores.argmax(axis=1) == labels).all()
    # At the least of the loss its slope is 0: offsets make the shares of each class its own.
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares.mean(axis=0), 1 / len(SECTIONS), atol=1e-6)


def test_what_was_measured_is_kept_under_its_key(tmp_path):
    calls = []

    def measure():
        calls.append(1)
        areas = area_under_curve("area", [1.0, 3.0], [0.5, 2.0], "clips")
        rates = ratio_of_sums("errors", [1, 2], [3, 5], "lines", errors=True)
        return Measured([areas, rates], share("agreement", 1, 2, "answers"), 21.5)

    path = tmp_path / "kept" / "x.json"
    first = recall(path, "a", measure)
    again = recall(path, "a", measure)
    assert again == first
    assert len(calls) == 1
    for before, after in zip(first.figures, again.figures, strict=True):
        assert measure_loss(before, after).value == 0
    recall(path, "b", measure)
    assert len(calls) == 2


def test_a_key_hangs_on_the_file_the_words_and_the_code(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"1")
    first = make_key(count_edits, [file], 3)
    assert make_key(count_edits, [file], 3) == first
    assert make_key(make_codes, [file], 3) != first
    assert make_key(count_edits, [file], 4) != first
    file.write_bytes(b"2")
    assert make_key(count_edits, [file], 3) != first


def test_answers_are_asked_for_once(tmp_path):
    asked = []

    class Doubled(Session):
        def __init__(self):
            self.path, self.threads, self.outputs = tmp_path, 1, ["y"]
            self.inputs = [InputSpec("x", (2,), "float32")]

        def _run(self, inputs):
            asked.append(1)
            return {"y": 2 * inputs["x"]}

    path = tmp_path / "answers.npz"
    for _ in range(2):
        session = RememberedSession(Doubled(), path)
        for value in (1, 2, 1):
            (y,) = session.run({"x": np.full(2, value, np.float32)}).values()
            assert y.tolist() == [2 * value] * 2
        session.save()
    assert len(asked) == 2


def test_labels_to_choose_by_are_as_many_as_asked_for_and_of_their_kind():
    def score(_session, limit):
        return np.array([1, 0, 1, 1.0])[:limit]

    few, all_there = Mean(score, 2), Mean(score, None)
    assert (few(_Fixed([[1]])), all_there(_Fixed([[1]]))) == (0.5, 0.75)
    assert isinstance(few, Scored)
    assert not isinstance(Area(lambda _session, _limit: 0.5, None), Scored)
    assert Labels.read("figure:12") == Labels(12, "figure")
    assert [str(Labels.read(text)) for text in ("0", "all")] == ["", " by all, scores"]
    for text in ("area:12", "many"):
        with pytest.raises(ValueError, match=text.partition(":")[0]):
            Labels.read(text)
    with pytest.raises(EdgekitError, match="no labels of kind figure"):
        find_measure("magika", Labels.read("figure:12"))
