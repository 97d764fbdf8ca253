"""Sensors are read while a command runs, and energy is what their counters and powers say."""

import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.delivery.sampling import (
    Reading,
    Samples,
    make_command,
    measure_energy,
    parse_samples,
    sum_energy,
)
from edgekit.targets.errors import ToolError
from edgekit.targets.probe.sensors import SAMPLE_SCRIPT, Rail

COUNTER = "/sys/class/powercap/intel-rapl:0/energy_uj"
RANGE = 262_143_328_850
RAPL = Rail("rapl package-0", "energy", COUNTER, None, RANGE)


def make_samples(files, run, idle=()) -> Samples:
    return Samples(
        files=files,
        idle=tuple(Reading(t, tuple(values)) for t, *values in idle),
        run=tuple(Reading(t, tuple(values)) for t, *values in run),
        before={},
        after={},
        status=0,
    )


@settings(deadline=None)
@given(
    st.integers(0, RANGE),
    st.lists(st.integers(0, RANGE - 1), min_size=1, max_size=20),
    st.integers(1, 1000),
)
def test_a_counter_that_begins_again_loses_nothing(start, steps, inferences) -> None:
    """The oracle is the sum of what was drawn; the counter shows it modulo its range."""
    total, run = start, [(0.0, start % RANGE)]
    for number, step in enumerate(steps, 1):
        total += step
        run.append((float(number), total % RANGE))
    samples = make_samples((COUNTER,), run, idle=[(-2.0, 0), (-1.0, 0)])
    assert sum_energy(RAPL, samples, samples.run) == pytest.approx(
        (total - start) * 1e-6, rel=1e-12
    )
    energy = measure_energy(RAPL, samples, inferences)
    assert energy is not None
    assert energy.gross_inference_j * inferences == pytest.approx(sum(steps) * 1e-6)


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(0, 20), st.integers(1, 40), st.integers(1, 100))
def test_idle_is_subtracted_for_as_long_as_it_ran(run_w, idle_w, seconds, inferences) -> None:
    """Constant powers have energies that can be computed by hand."""
    power = Rail("ina226 power1", "power", "/p")
    run = [(10.0 + t, run_w * 10**6) for t in range(seconds + 1)]
    idle = [(float(t), idle_w * 10**6) for t in range(4)]
    energy = measure_energy(power, make_samples(("/p",), run, idle), inferences)
    assert energy is not None
    assert energy.idle_w == pytest.approx(idle_w)
    assert energy.run_w == pytest.approx(run_w)
    assert energy.inference_j == pytest.approx((run_w - idle_w) * seconds / inferences, abs=1e-9)


def test_each_kind_of_rail_has_its_units() -> None:
    """5 V and 400 mA are 2 W, as 2000 mW are."""
    volts = Rail("ina3221 VDD_IN", "current", "/c", "/v")
    milliwatts = Rail("ina3221x POM_5V_IN", "milliwatts", "/m")
    samples = make_samples(("/c", "/v", "/m"), [(0.0, 400, 5000, 2000), (3.0, 400, 5000, 2000)])
    assert sum_energy(volts, samples, samples.run) == pytest.approx(6)
    assert sum_energy(milliwatts, samples, samples.run) == pytest.approx(6)


def test_a_rail_that_cannot_be_read_has_no_energy() -> None:
    lost = make_samples((COUNTER,), [(0.0, None), (1.0, 5)], [(-1.0, 1), (0.0, 2)])
    assert measure_energy(RAPL, lost, 1) is None
    unknown = Rail("rapl", "energy", COUNTER)
    again = make_samples((COUNTER,), [(0.0, 9), (1.0, 5)], [(-1.0, 1), (0.0, 2)])
    assert measure_energy(unknown, again, 1) is None
    never_idle = make_samples((COUNTER,), [(0.0, 1), (1.0, 5)])
    assert measure_energy(RAPL, never_idle, 1) is None


class Meter(threading.Thread):
    """Advances a counter of energy, at one power, and at another while a marker is there; keeps what it wrote."""

    def __init__(self, root: Path, marker: Path, idle_w: float, run_w: float, span: int) -> None:
        super().__init__(daemon=True)
        self.zone = root / "sys/class/powercap/intel-rapl:0"
        self.zone.mkdir(parents=True)
        (self.zone / "name").write_text("package-0\n")
        (self.zone / "max_energy_range_uj").write_text(f"{span}\n")
        self.marker, self.idle_w, self.run_w, self.span = marker, idle_w, run_w, span
        self.log: list[tuple[float, int]] = []
        self.done = threading.Event()
        self._write(time.clock_gettime(time.CLOCK_BOOTTIME), 0.0)

    def _write(self, now: float, total: float) -> None:
        self.log.append((now, int(total)))
        new = self.zone / "new"
        new.write_text(f"{int(total) % self.span}\n")
        new.rename(self.zone / "energy_uj")

    def run(self) -> None:
        total, last = 0.0, time.clock_gettime(time.CLOCK_BOOTTIME)
        while not self.done.is_set():
            watts = self.run_w if self.marker.exists() else self.idle_w
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            total, last = total + (now - last) * watts * 1e6, now
            self._write(now, total)
            self.done.wait(0.005)

    def find(self, reading: Reading) -> float:
        """Returns the joules that it had counted when it wrote what was read, of equal values the nearest in time."""
        (value,) = reading.values
        wrote = [(abs(t - reading.seconds), uj) for t, uj in self.log if uj % self.span == value]
        assert wrote, f"{value} was never written"
        return min(wrote)[1] * 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("shell", [["sh"], ["busybox", "sh"]])
def test_the_script_reads_a_counter_while_a_command_runs(shell, tmp_path: Path) -> None:
    """What is computed from the script's readings is what the meter wrote, wraps included.

    Readings are found among what was written by their values, so that neither has to be on time; only a gap of 0.75 s
    between two readings would hide a wrap.
    """
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]}")
    span = 3_000_000
    marker = tmp_path / "running"
    meter = Meter(tmp_path, marker, idle_w=1.0, run_w=4.0, span=span)
    meter.start()
    time.sleep(0.05)
    script = f"touch {marker}; sleep 1.2; rm {marker}; echo said; exit 3"
    command = make_command(
        ["sh", "-c", script],
        output=str(tmp_path / "out"),
        watch=[COUNTER],
        note=["/sys/class/powercap/intel-rapl:0/name"],
        idle=5,
        interval_s=0.05,
        sys_root=str(tmp_path),
    )
    done = subprocess.run(
        ["sh", "-c", command.replace("sh -s", f"{' '.join(shell)} -s", 1)],
        stdin=SAMPLE_SCRIPT.open(),
        check=True,
        capture_output=True,
        text=True,
    )
    meter.done.set()
    meter.join()
    assert done.stderr == ""
    samples = parse_samples(done.stdout, [COUNTER])
    assert samples.status == 3
    assert (tmp_path / "out").read_text() == "said\n"
    assert samples.before["/sys/class/powercap/intel-rapl:0/name"] == "package-0"
    rail = Rail("rapl package-0", "energy", COUNTER, None, span)
    energy = measure_energy(rail, samples, 10)
    assert energy is not None
    drawn = meter.find(samples.run[-1]) - meter.find(samples.run[0])
    # More than the counter holds: it began again.
    assert drawn > span * 1e-6
    assert energy.gross_inference_j * 10 == pytest.approx(drawn, abs=1e-5)
    rested = meter.find(samples.idle[-1]) - meter.find(samples.idle[0])
    idle_w = rested / (samples.idle[-1].seconds - samples.idle[0].seconds)
    assert energy.idle_w == pytest.approx(idle_w, rel=1e-4)
    seconds = samples.run[-1].seconds - samples.run[0].seconds
    assert energy.inference_j * 10 == pytest.approx(drawn - idle_w * seconds, abs=1e-4)
    assert energy.inference_j > 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "edgekit-sample 1\nend",
        "edgekit-sample 1\nrun 1.0 5\nend",
        "edgekit-sample 1\nstatus 0\nend",
        "edgekit-sample 1\nrun 1.0 5 6\nstatus 0\nend",
        "edgekit-sample 1\nrun x 5\nstatus 0\nend",
        "edgekit-sample 1\nwhat\nstatus 0\nend",
        "edgekit-sample 1\nnote sideways /f x\nrun 1.0 5\nstatus 0\nend",
        "edgekit-sample 1\nrun 1.0 5\nstatus 0",
    ],
)
def test_a_sampler_that_broke_off_is_told(text) -> None:
    with pytest.raises(ToolError, match="sampler"):
        parse_samples(text, ["/f"])


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_refused_in_words(text) -> None:
    with pytest.raises(ToolError):
        parse_samples(text, ["/f"])


def test_the_reading_that_came_too_late_is_none_of_the_runs() -> None:
    lines = ["run 1.0 1", "run 2.0 2", "run 3.1 4", "run 3.0 3", "status 0"]
    text = "\n".join(["edgekit-sample 1", *lines, "end"])
    samples = parse_samples(text, ["/f"])
    assert [reading.values[0] for reading in samples.run] == [1, 2, 3]
