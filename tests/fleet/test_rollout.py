"""The order of a rollout, its rule, and that it goes on where it stopped."""

import json
import os
import signal
import threading
import time

import pytest
from fleet_on_paper import CountedInstaller, PowerCutError, make_devices
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import EdgekitError
from edgekit.delivery.fleet.journal import DeviceOutcome, Journal, Outcome, read_journal
from edgekit.delivery.fleet.rollout import Rollout, mix_boards
from edgekit.delivery.fleet.strategy import NONE, Portion, Strategy, parse_stages

BUNDLES = {"rpi4": "ab" * 32}


def roll_out(path, installer, strategy, count=20, bundles=BUNDLES, events=None):
    with Journal(path, bundles) as journal:
        tell = (lambda event: None) if events is None else events.append
        return Rollout(make_devices(count), journal, installer, strategy, tell).run()


def test_stages_end_where_they_should():
    strategy = Strategy(2, parse_stages("10%,50%,100%"))
    assert strategy.cut(20) == [2, 10, 20]
    assert strategy.cut(21) == [2, 3, 11, 21]
    assert strategy.cut(1) == [1]
    assert strategy.cut(0) == []
    assert Strategy(0, parse_stages("3,12.5%")).cut(100) == [3, 13]
    assert Strategy(5, parse_stages("2,7")).cut(100) == [5, 7]


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "101%", "1e3", "10 %", "0%", "5,,6"])
def test_what_is_no_stage_is_refused(text):
    with pytest.raises(EdgekitError, match=r"neither a number|no more than 100|stage of no"):
        parse_stages(text)


def test_a_share_is_exact():
    strategy = Strategy(max_failures=Portion.parse("10%"))
    assert not strategy.is_exceeded(7, 70)
    assert strategy.is_exceeded(8, 70)
    assert Strategy(max_failures=NONE).is_exceeded(1, 1000)
    for mistake in ({"canary": -1}, {"parallel": 0}, {"wait_s": float("nan")}):
        with pytest.raises(EdgekitError):
            Strategy(**mistake)


def test_boards_take_turns():
    from dataclasses import replace

    devices = [
        replace(device, board="rpi5" if number >= 4 else "rpi4")
        for number, device in enumerate(make_devices(6))
    ]
    assert [device.name for device in mix_boards(devices)] == [
        "d00",
        "d04",
        "d01",
        "d05",
        "d02",
        "d03",
    ]


def test_a_failed_canary_ends_it(tmp_path):
    installer = CountedInstaller(broken={"d01"})
    strategy = Strategy(2, parse_stages("100%"), max_failures=Portion.parse("50%"), parallel=1)
    result = roll_out(tmp_path / "j", installer, strategy)
    assert result.outcome == Outcome.ABORTED
    assert result.reason == "canary d01 failed"
    assert installer.installs == ["d00", "d01"]
    assert result.entries["d01"].detail == "the disk is full"
    assert result.count(DeviceOutcome.PENDING) == 18


def test_what_is_ill_after_a_stage_is_taken_back(tmp_path):
    installer = CountedInstaller(ill={"d05"})
    strategy = Strategy(2, parse_stages("50%,100%"), max_failures=Portion.parse("1"))
    result = roll_out(tmp_path / "j", installer, strategy)
    assert result.outcome == Outcome.DONE
    assert installer.backs == ["d05"]
    assert result.entries["d05"].detail == "not well any more: it answers no more; taken back"
    # Canaries are looked at after each of the three stages.
    assert installer.rechecks.count("d00") == 3
    assert installer.rechecks.count("d05") == 1


def test_a_rerun_goes_on_and_repeats_nothing(tmp_path):
    path = tmp_path / "j"
    strategy = Strategy(1, parse_stages("100%"), max_failures=Portion.parse("2"), parallel=4)
    first = CountedInstaller(broken={"d03", "d04", "d05"})
    assert roll_out(path, first, strategy).outcome == Outcome.ABORTED
    with pytest.raises(EdgekitError, match=r"a rollout of other bundles \(rpi4 abababababab\)"):
        roll_out(path, CountedInstaller(), strategy, bundles={"rpi4": "cd" * 32})
    second = CountedInstaller()
    assert roll_out(path, second, strategy).outcome == Outcome.DONE
    done = [name for name in first.installs if name not in first.broken]
    assert sorted(done + second.installs) == [device.name for device in make_devices(20)]
    third = CountedInstaller()
    assert roll_out(path, third, strategy).outcome == Outcome.DONE
    assert third.installs == third.rechecks == []
    # Once it is done, other bundles may come.
    assert roll_out(path, third, strategy, bundles={"rpi4": "cd" * 32}).outcome == Outcome.DONE
    assert len(third.installs) == 20


def test_a_wait_that_was_interrupted_is_waited_again(tmp_path):
    path = tmp_path / "j"
    strategy = Strategy(1, parse_stages("100%"), wait_s=30)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    result = roll_out(path, CountedInstaller(), strategy, count=3)
    assert (result.outcome, result.interrupted) == (Outcome.STOPPED, True)
    ill = CountedInstaller(ill={"d00"})
    result = roll_out(path, ill, Strategy(1, parse_stages("100%")), count=3)
    assert result.reason == "canary d00 failed"
    assert ill.installs == []


def test_ctrl_c_lets_devices_that_are_begun_finish(tmp_path):
    # A shell's background jobs begin with Ctrl-C ignored, and so would this test.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    installer = CountedInstaller(pause=threading.Event())
    events = []

    def interrupt():
        while len(installer.installs) < 4:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        installer.pause.set()

    threading.Thread(target=interrupt).start()
    strategy = Strategy(0, parse_stages("100%"), parallel=4)
    result = roll_out(tmp_path / "j", installer, strategy, events=events)
    assert result.outcome == Outcome.STOPPED
    assert result.count(DeviceOutcome.UPDATED) == 4 == len(installer.installs)
    assert any("stopping" in event.text for event in events)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    installer = CountedInstaller(pause=threading.Event())

    def interrupt():
        for _ in range(2):
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        roll_out(tmp_path / "j", installer, Strategy(parallel=4))
    assert time.monotonic() - begin < 3
    installer.pause.set()


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 24),
    st.data(),
    st.integers(0, 4),
    st.lists(st.sampled_from(["1", "3", "10%", "25%", "50%", "100%"]), max_size=4),
    st.sampled_from(["0", "2", "10%", "30%", "100%"]),
    st.integers(1, 6),
)
def test_the_rule_holds_whatever_fails(tmp_path_factory, count, data, canary, stages, rule, many):
    names = [device.name for device in make_devices(count)]
    broken = data.draw(st.sets(st.sampled_from(names)))
    ill = data.draw(st.sets(st.sampled_from(names))) - broken
    strategy = Strategy(
        canary, (*parse_stages(",".join([*stages, "100%"])),), 0.0, Portion.parse(rule), many
    )
    installer = CountedInstaller(broken=broken, ill=ill)
    path = tmp_path_factory.mktemp("fleet") / "journal"
    result = roll_out(path, installer, strategy, count)
    allowed = strategy.max_failures.of(count)
    failed = {name for name in names if result.entries[name].state == DeviceOutcome.FAILED}
    updated = {name for name in names if result.entries[name].state == DeviceOutcome.UPDATED}
    assert len(installer.installs) == len(set(installer.installs))
    assert installer.most <= many
    assert failed <= broken | ill
    assert not updated & broken
    assert set(installer.backs) == failed & ill
    assert failed | updated == set(installer.installs)
    # No device began before the stages before its own were over.
    begun = {name: place for place, name in enumerate(installer.installs)}
    for end in strategy.cut(count):
        before, after = names[:end], names[end:]
        assert all(
            begun[late] > begun[early] for late in after if late in begun for early in before
        )
    if result.outcome == Outcome.DONE:
        assert len(failed) <= allowed
        assert not failed & set(names[:canary])
        assert failed | updated == set(names)
    else:
        assert result.outcome == Outcome.ABORTED
        assert len(failed) > allowed or failed & set(names[:canary])
        # What was begun when the rule was broken was finished, and no more.
        assert len(failed - ill) <= allowed + many


@pytest.mark.parametrize("dies_at", range(8))
def test_a_rollout_whose_machine_goes_off_goes_on(tmp_path, dies_at):
    path = tmp_path / "j"
    strategy = Strategy(2, parse_stages("50%,100%"), parallel=1)
    first = CountedInstaller(dies_at=dies_at)
    with pytest.raises(PowerCutError):
        roll_out(path, first, strategy, count=8)
    outcome = read_journal(path).outcome
    assert outcome == Outcome.RUNNING
    second = CountedInstaller()
    assert roll_out(path, second, strategy, count=8).outcome == Outcome.DONE
    assert sorted(first.installs + second.installs) == [d.name for d in make_devices(8)]


def test_a_journal_is_one_rollout_s_at_a_time(tmp_path):
    path = tmp_path / "j"
    with (
        Journal(path, BUNDLES),
        pytest.raises(EdgekitError, match="another rollout with this journal runs"),
    ):
        roll_out(path, CountedInstaller(), Strategy())
    assert roll_out(path, CountedInstaller(), Strategy(), count=1).outcome == Outcome.DONE


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "nonsense", '{"schema": 2}', '{"schema": 1, "devices": {"a": {"x": 1}}}'],
)
def test_a_file_that_is_no_journal_is_left_alone(tmp_path, content):
    path = tmp_path / "j"
    path.write_text(content)
    with pytest.raises(EdgekitError, match=r"j: no journal of a rollout"):
        roll_out(path, CountedInstaller(), Strategy())
    assert path.read_text() == content


def test_the_journal_can_be_read_by_others(tmp_path):
    path = tmp_path / "j"
    roll_out(path, CountedInstaller(broken={"d01"}), Strategy(max_failures=Portion.parse("1")), 2)
    content = json.loads(path.read_text())
    assert content["outcome"] == "done"
    assert content["bundles"] == BUNDLES
    assert content["devices"]["d00"].items() >= {"state": "updated", "release": 2}.items()
    assert content["devices"]["d01"]["detail"] == "the disk is full"
    assert content["devices"]["d01"]["when"].endswith("Z")
