"""The contest: who takes part, what is measured, and that nobody wins by computing something else."""

import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.peers import contest as contest_module
from edgekit.peers.contest import hold_contest
from edgekit.peers.contestant import Contestant, Package
from edgekit.peers.contestants import CONTESTANTS, OURS, REFERENCE, find_contestant
from edgekit.peers.disturbance import Watch
from edgekit.peers.fix_shapes import fix_shapes
from edgekit.peers.plot import write_plot
from edgekit.peers.process import Process
from edgekit.peers.result import (
    Contest,
    Entry,
    Rounds,
    make_contest_table,
    make_speed_table,
    mean_speed,
)
from edgekit.peers.samples_file import read_samples_file, write_samples
from edgekit.targets.errors import ToolError
from edgekit.timing import Timing

ORT_INT8 = find_contestant("ONNX Runtime int8")


@pytest.fixture(scope="module")
def held(cnn, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("contest")
    result = hold_contest(
        "small",
        cnn,
        [{"image": image[None]} for image in images],
        folder=folder,
        threads=(1,),
        seconds=0.1,
        contestants=(OURS, ORT_INT8, REFERENCE),
        description="random pictures",
    )
    return result, folder


def make_entry(name, median, *, snr=20.0, ours=False, threads=1):
    timing = Timing(median, median, median, 10, threads)
    return Entry(name, ours, "int8", snr_db=snr, timings={threads: timing}, first_ms={threads: 1.0})


def make_contest(*entries):
    return Contest("net", "", False, "generic", entries)


@pytest.mark.slow
def test_everyone_is_timed_measured_and_compared(held):
    result, _ = held
    assert [entry.name for entry in result.entries] == [
        "edgekit int8",
        "ONNX Runtime int8",
        "ONNX Runtime float",
    ]
    for entry in result.entries:
        assert entry.reason == ""
        assert entry.timings[1].runs >= result.rounds[1].counted >= 7
        assert 0 < entry.timings[1].median_ms <= entry.timings[1].high_ms
        assert entry.first_ms[1] > 0
        assert entry.peak_bytes > 100_000
        assert entry.file_bytes > 1000
        assert entry.is_sane
    reference = result.entries[2]
    assert reference.snr_db > 100
    assert reference.agreement.share == 1.0
    assert 10 < result.ours.snr_db < 100
    assert result.get_speed(1) > 0


@pytest.mark.slow
def test_what_was_prepared_is_used_again(held, cnn, images, monkeypatch):
    result, folder = held

    def refuse(*_arguments, **_keywords):
        raise AssertionError("prepared again")

    monkeypatch.setattr(contest_module.shutil, "rmtree", refuse)
    again = hold_contest(
        "small",
        cnn,
        [{"image": image[None]} for image in images],
        folder=folder,
        contestants=(OURS, ORT_INT8),
        only_prepare=True,
    )
    assert [entry.how for entry in again.entries] == [entry.how for entry in result.entries[:2]]


@pytest.mark.slow
def test_the_integer_share_is_told(held):
    result, _ = held
    ours, peer, reference = result.entries
    assert ours.integer[0] == ours.integer[1] > 0
    assert 0 < peer.integer[0] <= peer.integer[1]
    assert reference.integer is None


@pytest.mark.slow
def test_results_become_json_tables_and_a_plot(held, tmp_path):
    result, _ = held
    record = json.loads(json.dumps(result.to_dict()))
    assert record["entries"][0]["timings"]["1"]["median_ms"] > 0
    assert record["fastest_peer"]["1"].startswith("ONNX Runtime")
    assert make_contest_table(result, 1).row_count == 3
    assert make_speed_table([result], [1]).row_count == 2
    write_plot(tmp_path / "plot.svg", [result], [1], "a machine")
    svg = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert svg.count("<rect x=") == 3
    assert "a machine" in svg


def test_a_missing_peer_is_named_with_the_pip_command(cnn, images, tmp_path):
    class Absent(type(REFERENCE)):
        runtime = "Absent"
        packages = (Package("no_such_module_here", "no-such-package"),)

    result = hold_contest(
        "small",
        cnn,
        [{"image": images[0][None]}],
        folder=tmp_path,
        seconds=0.1,
        contestants=(Absent("float"),),
    )
    assert result.entries[0].reason == "not installed: pip install no-such-package"
    assert result.find_fastest_peer(1) is None


@pytest.mark.slow
def test_what_our_converter_refuses_is_said_and_the_peers_are_timed(tmp_path):
    node = helper.make_node("Hardmax", ["x"], ["y"], "odd")
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 8]) for n in "xy"]
    graph = helper.make_graph([node], "odd", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "odd.onnx")
    sample = {"x": np.arange(8, dtype=np.float32)[None]}
    result = hold_contest(
        "odd",
        tmp_path / "odd.onnx",
        [sample],
        folder=tmp_path / "work",
        threads=(1,),
        seconds=0.0,
        contestants=(OURS, REFERENCE),
    )
    assert result.entries[0].reason.startswith("ModelError: ")
    assert result.ours is None
    assert result.get_speed(1) is None
    assert result.entries[1].timings[1].runs >= 7


def test_a_fast_wrong_answer_does_not_win():
    ours = make_entry("edgekit int8", 2.0, ours=True)
    wrong, right = make_entry("wrong", 1.0, snr=0.5), make_entry("right", 3.0)
    assert make_contest(ours, wrong, right).find_fastest_peer(1) == right
    assert make_contest(ours, wrong, right).get_speed(1) == pytest.approx(1.5)
    garbled = replace(ours, snr_db=-1.0)
    assert make_contest(garbled, right).get_speed(1) is None


def test_a_busy_machine_is_named():
    assert "QUOTE" not in str(Rounds(counted=7, total=9, disturbance=0.02))
    assert "TOO BUSY TO QUOTE" in str(Rounds(counted=7, total=30, disturbance=1.5))


def test_the_mean_is_geometric_over_the_networks_that_run():
    fast = make_contest(make_entry("a", 1.0, ours=True), make_entry("b", 4.0))
    even = make_contest(make_entry("a", 1.0, ours=True), make_entry("b", 1.0))
    refused = make_contest(Entry("a", True, "int8", reason="no"), make_entry("b", 1.0))
    assert mean_speed([fast, even, refused], 1) == pytest.approx(2.0)
    assert mean_speed([refused], 1) is None


def test_a_worker_that_dies_or_hangs_is_told_of(cnn, tmp_path):
    with (
        Process(REFERENCE) as process,
        pytest.raises(ToolError, match=r"took longer than 0 s to measure"),
    ):
        process.ask("measure", limit=0.0, seconds=0.0, runs=1)
    with Process(REFERENCE) as process:
        process._process.kill()
        time.sleep(0.1)
        with pytest.raises(ToolError, match="crashed with signal 9"):
            process.ask("peak")
    with Process(REFERENCE) as process, pytest.raises(ToolError, match="AttributeError"):
        process.ask("no_such_command")


def test_shapes_are_fixed_to_those_of_the_sample(cnn, images, tmp_path):
    signature = fix_shapes(cnn, tmp_path / "fixed.onnx", {"image": np.stack(images[:2])})
    graph = onnx.load(tmp_path / "fixed.onnx").graph
    assert [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == [2, 3, 16, 16]
    assert signature.outputs[0].shape == (2, 10)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the system doesn't tell")
def test_what_others_take_is_seen_and_our_own_is_not():
    busy = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(busy) as other:
        try:
            foreign, own = Watch([]), Watch([other.pid])
            seen, left = 0.0, 0.0
            deadline = time.monotonic() + 60
            # Where others wait for processors too, it may not run at once.
            while seen - left <= 0.1 and time.monotonic() < deadline:
                time.sleep(0.5)
                seen, left = foreign.read(), own.read()
        finally:
            other.kill()
    assert seen - left > 0.1
    assert left >= 0.0


def test_samples_survive_the_file(tmp_path):
    samples = [{"a/b": np.full((1, 2), i, np.float32), "c": np.zeros((), np.int64)} for i in (0, 1)]
    write_samples(tmp_path / "samples.npz", samples)
    again = read_samples_file(tmp_path / "samples.npz")
    assert [sorted(sample) for sample in again] == [["a/b", "c"]] * 2
    assert again[1]["a/b"].tolist() == [[1.0, 1.0]]


def test_the_list_names_each_contestant_once():
    names = [contestant.name for contestant in CONTESTANTS]
    assert len(set(names)) == len(names)
    assert names[0] == OURS.name
    assert all(isinstance(contestant, Contestant) for contestant in CONTESTANTS)
    assert all(re.fullmatch(r"[\w ]+ (int8|float)", name) for name in names)


@pytest.mark.parametrize("contestant", CONTESTANTS[3:], ids=lambda contestant: contestant.name)
def test_a_peer_answers_as_the_float_model(contestant, cnn, images, tmp_path):
    missing = contestant.list_missing()
    if missing:
        pytest.skip(f"{contestant.name}: pip install {' '.join(missing)}")
    result = hold_contest(
        "small",
        cnn,
        [{"image": image[None]} for image in images],
        folder=tmp_path,
        threads=(1,),
        seconds=0.0,
        contestants=(contestant,),
    )
    assert result.entries[0].reason == ""
    assert result.entries[0].is_sane
