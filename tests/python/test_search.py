"""The search keeps promises or says that none can be kept, and its studies outlive what runs them."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgekit
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.sensitivity import Part
from edgekit.search.estimate import Costs, Link, find_twice
from edgekit.search.front import Point, is_better, keep_front
from edgekit.search.part_costs import PartCosts
from edgekit.search.promises import Promises, choose_point
from edgekit.search.space import Choice, group_parts
from edgekit.search.study import Study
from edgekit.search.walk import walk
from edgekit.targets.errors import EdgekitError, PromiseError, ToolError

INT8, ROWS, FLOAT32 = NumberFormat.INT8, NumberFormat.INT8_ROWS, NumberFormat.FLOAT32
HALF = NumberFormat.INT12
BODY = "a = Conv (x, w) b = Relu (a) c = Conv (b, v) d = Flatten <axis=1> (c) y = MatMul (d, u)"


class Scores:
    """How near outputs come to float's, one score a sample."""

    def __init__(self, path, samples):
        self._samples = samples
        self._wanted = [edgekit.load(path).run({"x": sample})["y"] for sample in samples]

    def scores(self, session):
        given = [session.run({"x": sample})["y"] for sample in self._samples]
        pairs = zip(self._wanted, given, strict=True)
        return np.array([float(a.argmax() == b.argmax()) for a, b in pairs])

    def __call__(self, session):
        return float(self.scores(session).mean())


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "net.onnx"
    rng = np.random.default_rng(5)
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> net (float[1, 8, 9, 9] x) => (float[1, 6] y) '
        f"{{ {BODY} }}"
    )
    weights = {
        "w": rng.normal(0, 0.3, (8, 8, 3, 3)),
        "v": rng.normal(0, 0.3, (8, 8, 1, 1)),
        "u": rng.normal(0, 0.1, (392, 6)),
    }
    for name, array in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}{index}"
    onnx.save(model, path)
    samples = rng.normal(0, 1, (300, 1, 8, 9, 9)).astype(np.float32)
    return path, list(samples)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path_factory.getbasetemp() / "search-cache"))


def deploy(network, output, **arguments):
    path, samples = network
    calibration = [{"x": sample} for sample in samples[:16]]
    return edgekit.deploy(
        path, calibration=calibration, output=output, ranges="minmax", **arguments
    )


@pytest.mark.slow
def test_a_plan_keeps_every_promise(network, tmp_path):
    evaluate = Scores(network[0], network[1][16:])
    made = deploy(
        network, tmp_path / "dist", evaluate=evaluate, max_drop=0.1, max_ms=50, max_mb=0.5
    )
    chosen = next(p for p in made.front.points if p.name == made.front.chosen)
    session = made.load()
    assert evaluate(edgekit.load(network[0])) - evaluate(session) <= 0.1
    assert chosen.memory_bytes <= 0.5e6
    assert chosen.milliseconds <= 50
    names = {point.name for point in made.front.points}
    assert made.front.tried >= 4
    assert all(point.figure is not None for point in made.front.points if point.name in names)
    assert any("plans were tried" in note for note in made.report.notes)
    assert made.front.to_dict()["chosen"] == made.front.chosen
    # As it was tested in its turn, at the whole confidence.
    asked = next(asked for asked in made.report.asked if asked.what == "max_drop")
    assert asked.verdict == "kept"
    assert asked.how.startswith("with 95 % confidence")


@pytest.mark.slow
def test_a_promise_that_nothing_keeps_is_refused_and_nothing_written(network, tmp_path):
    evaluate = Scores(network[0], network[1][16:])
    with pytest.raises(PromiseError, match="nearest") as refused:
        deploy(network, tmp_path / "dist", evaluate=evaluate, max_drop=0.1, max_mb=1e-3)
    assert refused.value.nearest["memory_bytes"] > 1000
    assert not (tmp_path / "dist").exists()


@pytest.mark.slow
def test_a_drop_without_a_measure_is_a_share_of_answers(network, tmp_path):
    path, samples = network
    made = deploy(network, tmp_path / "dist", max_drop=0.1, confidence=None)
    (asked,) = [asked for asked in made.report.asked if asked.what == "max_drop"]
    assert asked.verdict == "kept"
    # Every second of the 16 calibration samples is held out.
    assert "8 calibration samples" in asked.how
    changed = 1 - Scores(path, samples[16:])(made.load())
    assert changed <= 0.1
    with pytest.raises(PromiseError, match=r"nearest is .* MB of memory, with .* % of the answers"):
        deploy(network, tmp_path / "none", max_drop=0.0, max_mb=0.0325, confidence=None)


def test_too_few_samples_are_told(network, tmp_path):
    evaluate = Scores(network[0], network[1][16:36])
    steps = set()
    with pytest.raises(edgekit.AccuracyError, match="too few"):
        deploy(
            network,
            tmp_path / "dist",
            evaluate=evaluate,
            max_drop=0.001,
            progress=lambda step, *_: steps.add(step),
        )
    assert not (tmp_path / "dist").exists()
    # Before anything that takes long.
    assert "calibrating" not in steps


def test_without_a_promise_nothing_is_searched(network, tmp_path):
    assert deploy(network, tmp_path / "dist").front is None


def test_a_study_without_trials_is_refused(network, tmp_path):
    with pytest.raises(EdgekitError, match="trials"):
        deploy(network, tmp_path / "dist", study=tmp_path / "s.journal")
    with pytest.raises(EdgekitError, match="trials"):
        deploy(network, tmp_path / "dist", trials=-1)


def test_that_optuna_is_missing_is_said_before_anything_is_measured(network, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    stages = []
    with pytest.raises(ToolError, match=r"edgekit\[search\]"):
        deploy(network, tmp_path / "dist", trials=2, progress=lambda *told: stages.append(told))
    assert not stages


@pytest.mark.slow
def test_a_deployment_takes_trials_into_account(network, tmp_path):
    pytest.importorskip("optuna")
    journal = tmp_path / "study.journal"
    evaluate = Scores(network[0], network[1][16:])
    first = deploy(
        network, tmp_path / "a", evaluate=evaluate, max_drop=0.1, trials=8, study=journal
    )
    assert first.front.tried >= 4
    size = journal.stat().st_size
    deploy(network, tmp_path / "b", evaluate=evaluate, max_drop=0.1, trials=8, study=journal)
    # All trials were there: the second only looked.
    assert journal.stat().st_size < 1.5 * size


def part(name, *formats):
    return Part(name, "Conv", (name,), formats)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_the_walk_holds_what_no_plan_beats(seed, count):
    rng = np.random.default_rng(seed)
    parts = tuple(part(f"p{i}", INT8, ROWS) for i in range(count))
    keys = [(p.name, f) for p in parts for f in (INT8, ROWS, FLOAT32)]
    costs = Costs(
        parts,
        {key: float(rng.uniform(1, 10)) for key in keys},
        {key: -float(rng.uniform(1, 10)) for key in keys if key[1] is not FLOAT32},
        {key: float(rng.uniform(1e-6, 1e-2)) for key in keys if key[1] is not FLOAT32},
        (),
        0.1,
        0.1,
    )
    walked = walk(costs)
    assert len(set(walked)) == len(walked)

    def total(choice):
        formats = [choice.by_part.get(p.name, FLOAT32) for p in parts]
        noise = sum(costs.noise.get((p.name, f), 0.0) for p, f in zip(parts, formats, strict=True))
        return costs.microseconds_of(formats), noise

    fastest = sum(min(costs.microseconds[p.name, f] for f in (INT8, ROWS, FLOAT32)) for p in parts)
    assert min(total(choice)[0] for choice in walked) == pytest.approx(fastest, rel=0.05)
    assert min(total(choice)[1] for choice in walked) == 0


def test_conversions_keep_neighbours_together():
    parts = tuple(part(f"p{i}", INT8) for i in range(3))
    times = {(p.name, f): 1.0 if f is INT8 else 1.5 for p in parts for f in (INT8, FLOAT32)}
    times["p1", INT8] = 1.2
    times["p1", FLOAT32] = 1.0
    links = (Link(0, (1,), 100), Link(1, (2,), 100))
    quiet = {(p.name, INT8): 1e-12 for p in parts}
    costs = Costs(parts, times, dict.fromkeys(quiet, -1.0), quiet, links, 1.0, 1.0)
    assert costs.microseconds_of([INT8, FLOAT32, INT8]) == 3.0 + 200
    fastest = min(
        walk(costs),
        key=lambda c: costs.microseconds_of([c.by_part.get(p.name, FLOAT32) for p in parts]),
    )
    assert set(fastest.by_part.values()) == {INT8}
    assert len(fastest.by_part) == 3


def test_codes_between_two_layers_are_counted_once():
    parts = tuple(part(f"p{i}", INT8, HALF) for i in range(3))
    noise = {(p.name, f): 3.0 if f is INT8 else 1.0 for p in parts for f in (INT8, HALF)}
    plain = dict.fromkeys(noise, 1.0)
    # The second one writes codes in any case, the others what is wanted.
    in_parts = PartCosts({("p1", HALF): 1.0}, {}, {("p0", HALF): 0.0, ("p2", HALF): 0.0}, {})
    links = (Link(0, (1,), 9), Link(1, (2,), 9))
    twice = find_twice(parts, links, noise, in_parts)
    assert twice == {(0, 1): 2.0}
    costs = Costs(parts, plain, {}, noise, links, 0.0, 0.0, in_parts, twice)
    assert costs.noise_of([INT8, INT8, INT8]) == 7.0
    assert costs.noise_of([INT8, HALF, INT8]) == 7.0
    assert costs.noise_of([FLOAT32, INT8, INT8]) == 6.0


numbers = st.integers(0, 3)


@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=12))
def test_the_front_is_what_none_beats(rows):
    points = [Point(str(i), None, a, b, c, c) for i, (a, b, c) in enumerate(rows)]
    front = keep_front(points)
    assert front == sorted(front, key=lambda point: point.goals)
    for point in points:
        beaten = any(is_better(other.goals, point.goals) for other in points)
        assert beaten != any(point.goals == kept.goals for kept in front)


class Fixed:
    """A goal whose promises are known."""

    def __init__(self, drops, is_scored=False):
        self._drops = drops
        self.is_scored = is_scored
        self.asked = []

    def promise(self, candidate):
        return None

    def measure(self, candidate):
        from edgekit.report import Accuracy

        self.asked.append(candidate)
        return Accuracy(1.0, 1.0 - self._drops[candidate])


def test_figures_alone_need_no_order_of_noise():
    points = [
        Point(n, None, noise, ms, 10, 10)
        for n, noise, ms in (("a", 0, 3), ("b", 1, 2), ("c", 2, 1))
    ]
    goal = Fixed({"a": 0.0, "b": 0.5, "c": 0.1})
    built = {name: name for name in "abc"}
    chosen = choose_point(points, built, {}, Promises(0.2), goal, "measured here")
    assert chosen.name == "c"
    assert goal.asked == ["c"], "what is slower need not be asked"
    goal = Fixed({"a": 0.0, "b": 0.5, "c": 0.1}, is_scored=True)
    # In a fixed order the test stops at the first that fails.
    chosen = choose_point(points, built, {}, Promises(0.2), goal, "measured here")
    assert chosen.name == "a"


def test_of_distributions_the_safest_is_what_moves_fewest_answers():
    # More decibels, where the few answers that are unsure happen not to have moved, and twice the answers.
    points = [
        Point(n, None, noise, ms, 10, 10, moved=moved)
        for n, noise, ms, moved in (
            ("a", 1e-4, 2, 0.02),
            ("b", 1e-2, 3, 0.01),
            ("c", 2e-2, 4, 0.03),
        )
    ]
    assert [point.name for point in keep_front(points)] == ["b", "a"]
    assert "1 % of the answers moved" in str(points[1])
    goal = Fixed({"a": 0.5, "b": 0.0}, is_scored=True)
    built = {name: name for name in "abc"}
    chosen = choose_point(keep_front(points), built, {}, Promises(0.2), goal, "measured here")
    assert chosen.name == "b"


def test_groups_can_say_what_they_were_made_from():
    parts = [part(f"p{i}", INT8) for i in range(4)]
    choices = [Choice.of({"p0": INT8}), Choice.of({"p0": INT8, "p1": INT8, "p2": INT8})]
    groups = group_parts(parts, choices, 24)
    assert [[p.name for p in group] for group in groups] == [["p0"], ["p1", "p2"], ["p3"]]
    assert len(group_parts(parts, choices, 2)) == 2


STUDY = """
    import sys, time
    from edgekit.converters.number_formats import NumberFormat as F
    from edgekit.converters.sensitivity import Part
    from edgekit.search.space import Choice
    from edgekit.search.study import Study

    parts = [Part(f"p{i}", "Conv", (f"p{i}",), (F.INT8, F.INT8_ROWS)) for i in range(6)]
    study = Study([[p] for p in parts], "subject", sys.argv[1], seed=3, goals=2)

    def evaluate(choice):
        time.sleep(float(sys.argv[3]))
        print("tried", choice.digest, flush=True)
        given = choice.by_part
        return float(sum(f is F.INT8 for f in given.values())), float(6 - len(given))

    seeds = [Choice.of({}), Choice.of({p.name: F.INT8 for p in parts})]
    for tried in study.run(int(sys.argv[2]), evaluate, seeds):
        print("knows", tried.choice.digest, *tried.goals, flush=True)
"""


def start(journal, trials, pause):
    command = [sys.executable, "-c", textwrap.dedent(STUDY), str(journal), str(trials), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def lines(text, kind):
    return [line.split()[1] for line in text.splitlines() if line.startswith(kind)]


@pytest.mark.slow
def test_a_killed_study_goes_on(tmp_path):
    pytest.importorskip("optuna")
    journal = tmp_path / "study.journal"
    killed = start(journal, 14, 0.15)
    seen = [killed.stdout.readline().split()[1] for _ in range(5)]
    time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    rest = start(journal, 14, 0)
    text, _ = rest.communicate(timeout=100)
    assert rest.returncode == 0
    known = lines(text, "knows")
    # Nothing that was told is lost but the plan that was under way, no plan is counted twice.
    assert len(known) == len(set(known)) == 14
    assert set(seen[:-1]) <= set(known)
    assert not set(seen[:-1]) & set(lines(text, "tried"))


def make_study(journal):
    parts = [Part(name, "Conv", (name,), (NumberFormat.INT8,)) for name in "ab"]
    return Study([[part] for part in parts], "network", journal, goals=1)


def test_a_line_that_was_cut_off_is_dropped_from_a_journal_alone(tmp_path):
    pytest.importorskip("optuna")
    journal = tmp_path / "study.journal"
    make_study(journal).run(2, lambda choice: (1.0,))
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole[:40])
    known = make_study(journal).run(3, lambda choice: (2.0,))
    assert [tried.goals for tried in known] == [(1.0,), (1.0,), (2.0,)]
    other = tmp_path / "notes.txt"
    other.write_text("mine\nand mine")
    with pytest.raises(EdgekitError, match="cannot be used"):
        make_study(other)
    assert other.read_text() == "mine\nand mine"


def test_plans_that_there_cannot_be_are_refused(tmp_path):
    pytest.importorskip("optuna")
    journal = tmp_path / "study.journal"
    make_study(journal).run(2, lambda choice: (1.0,))
    journal.write_text(journal.read_text().replace("float32", "float31"))
    with pytest.raises(EdgekitError, match="float31"):
        make_study(journal).list_tried()


@pytest.mark.slow
def test_two_processes_share_a_study(tmp_path):
    pytest.importorskip("optuna")
    journal = tmp_path / "study.journal"
    both = [start(journal, 16, 0.05) for _ in range(2)]
    texts = [process.communicate(timeout=100)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    tried = [digest for text in texts for digest in lines(text, "tried")]
    assert len(tried) == len(set(tried)) == 16
    assert all(lines(text, "tried") for text in texts)


@pytest.mark.slow
def test_a_seed_gives_the_same_plans(tmp_path):
    pytest.importorskip("optuna")
    texts = [start(tmp_path / f"{n}.journal", 12, 0).communicate(timeout=100)[0] for n in range(2)]
    assert texts[0] == texts[1]
    assert len(lines(texts[0], "knows")) == 12
