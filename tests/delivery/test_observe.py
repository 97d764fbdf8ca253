"""Signs that a device was slowed down, and what its program prints."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import ToolError
from edgekit.delivery.measure import read_report
from edgekit.delivery.measurement import Sensor
from edgekit.delivery.observe import describe_conditions, find_throttling, read_clocks
from edgekit.delivery.sampling import Reading, Samples
from edgekit.targets.probe.dump import Dump

CLOCK = "/sys/devices/system/cpu/cpu{}/cpufreq/{}"


def make_samples(files=(), run=((),), before=None, after=None) -> Samples:
    readings = tuple(Reading(float(t), tuple(values)) for t, values in enumerate(run))
    return Samples(tuple(files), (), readings, before or {}, after or {}, 0)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("0x0", "0x0", []),
        # It was so before: that says nothing of this run.
        ("0x50000", "0x50000", []),
        (
            "0x0",
            "0x50005",
            ["under-voltage now", "throttled now", "under-voltage since", "throttled since"],
        ),
        (
            "0x50000",
            "0xd0008",
            ["soft temperature limit is active now", "soft temperature limit was"],
        ),
        ("garbage", "throttled", []),
    ],
)
def test_the_firmware_of_a_raspberry_pi_is_believed(before, after, words) -> None:
    notes = [{"vcgencmd": f"throttled={bits}"} for bits in (before, after)]
    signs = find_throttling(Dump({}, {}), make_samples(before=notes[0], after=notes[1]), [], None)
    assert len(signs) == len(words)
    for sign, word in zip(signs, words, strict=True):
        assert word in sign


def test_coolers_limits_and_heat_are_signs() -> None:
    cooler = "/sys/class/thermal/cooling_device{}/"
    files = {
        cooler.format(0) + "type": "thermal-cpufreq-0",
        cooler.format(1) + "type": "pwm-fan",
        CLOCK.format(0, "cpuinfo_max_freq"): "1800000",
        CLOCK.format(1, "cpuinfo_max_freq"): "1800000",
    }
    after = {
        cooler.format(0) + "cur_state": "3",
        # A fan slows nothing down.
        cooler.format(1) + "cur_state": "2",
        CLOCK.format(0, "scaling_max_freq"): "1000000",
        CLOCK.format(1, "scaling_max_freq"): "1000000",
    }
    hot = Sensor("cpu-thermal", 70, 82, 70, 85.2)
    signs = find_throttling(Dump(files, {}), make_samples(after=after), [hot], 80)
    assert signs == [
        "cpu-thermal at 85 degrees: 80 are too many",
        "thermal-cpufreq-0 slows it down: state 3 (/sys/class/thermal/cooling_device0/cur_state)",
        "cores 0-1 are limited to 1000 MHz of 1800",
    ]


@pytest.mark.parametrize(
    ("highest_khz", "slow"), [(1_800_000, False), (1_750_000, False), (900_000, True)]
)
def test_a_clock_that_no_core_reached_is_a_sign(highest_khz, slow) -> None:
    path = CLOCK.format(0, "scaling_cur_freq")
    dump = Dump({CLOCK.format(0, "cpuinfo_max_freq"): "1800000"}, {})
    samples = make_samples([path], [(600_000,), (highest_khz,), (None,)])
    clocks = read_clocks(samples)
    assert clocks == [Sensor("cpu0", None, None, 600, highest_khz / 1000)]
    assert bool(find_throttling(dump, samples, clocks, None)) == slow


def test_conditions_say_what_is_not_told() -> None:
    conditions = describe_conditions(Dump({}, {}), make_samples(run=[(), ()]))
    assert conditions["governor"] == "not told"
    assert conditions["load_before"] == "not told"
    assert conditions["run_seconds"] == "1.00"


GOOD = {
    "median_ms": 1.5,
    "min_ms": 1,
    "p90_ms": 2.0,
    "first_ms": 3.0,
    "load_ms": 0.5,
    "runs": 3,
    "threads": 1,
    "running_threads": 1,
    "digests": [{"op": "a", "tensor": "b", "sha256": "c"}],
    "profile": [{"op": "a", "kernel": "", "median_us": 4.0}],
}
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def test_what_a_device_printed_is_read() -> None:
    assert read_report(json.dumps(GOOD)) == GOOD


@settings(deadline=None)
@given(st.sampled_from(sorted(GOOD)), ANY_JSON)
def test_what_a_device_printed_is_not_believed(key, value) -> None:
    """Whatever stands in a key, it is read as what it must be or refused in words."""
    try:
        answer = read_report(json.dumps(GOOD | {key: value}))
    except ToolError:
        return
    assert 0 <= answer["median_ms"] < float("inf")
    assert answer["runs"] >= 1


@settings(deadline=None)
@given(st.text(max_size=60) | ANY_JSON.map(json.dumps))
def test_anything_else_is_refused_in_words(printed) -> None:
    with pytest.raises(ToolError):
        read_report(printed)
