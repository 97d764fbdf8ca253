"""A bundle is measured on a device: this machine, one that ssh reaches, and an emulated one, which gets no times."""

import dataclasses
import json
import shlex
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from local_sshd import LocalSshd, run_sshd
from typer.testing import CliRunner

import edgekit
from edgekit import PlanError, SignatureError, TargetError, ToolError, _native
from edgekit.bundles.bundle import Bundle, sign_bundle
from edgekit.bundles.bundle_file import pack_bundle
from edgekit.bundles.manifest import describe_file
from edgekit.bundles.minisign import make_key, write_key_files
from edgekit.cli import app
from edgekit.converters.program import Program
from edgekit.costs.cost_model import CostModel
from edgekit.delivery import measure
from edgekit.delivery.measure import benchmark_on
from edgekit.delivery.measured import fit_speed, list_records, store
from edgekit.delivery.measurement import EMULATED, Measurement
from edgekit.delivery.place import make_folder
from edgekit.delivery.shell import LocalShell
from edgekit.delivery.ssh import Completed
from edgekit.targets.profile import PROFILES_DIR, Profile, load_profile, read_profile
from edgekit.targets.sections import Speed
from edgekit.targets.toolchain import Toolchain, list_toolchains
from edgekit.targets.write_profile import write_profile

WATTS = 3.0
# Wraps once in 0.8 s, which no two readings may be apart.
SPAN = 2_400_000


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSshd]:
    with run_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def sensors(tmp_path: Path) -> Iterator[Path]:
    """A device's /sys with a counter that runs at three watts, a chip, a zone and a clock."""
    root = tmp_path / "device"
    files = {
        "sys/class/powercap/intel-rapl:0/name": "package-0",
        "sys/class/powercap/intel-rapl:0/energy_uj": "0",
        "sys/class/powercap/intel-rapl:0/max_energy_range_uj": str(SPAN),
        "sys/class/hwmon/hwmon0/name": "ina3221",
        "sys/class/hwmon/hwmon0/in1_label": "VDD_IN",
        "sys/class/hwmon/hwmon0/in1_input": "5000",
        "sys/class/hwmon/hwmon0/curr1_input": "400",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": "81000",
        "sys/class/thermal/thermal_zone0/trip_point_0_type": "passive",
        "sys/class/thermal/thermal_zone0/trip_point_0_temp": "80000",
        "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0",
        "sys/class/thermal/cooling_device0/cur_state": "2",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance",
        "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "2000000",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1500000",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000",
        "proc/cpuinfo": Path("/proc/cpuinfo").read_text(),
        "proc/meminfo": "MemTotal: 2097152 kB",
        "proc/loadavg": "0.01 0.02 0.03 1/99 1234",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    done = threading.Event()

    def count() -> None:
        counter = root / "sys/class/powercap/intel-rapl:0/energy_uj"
        begin = time.monotonic()
        while not done.wait(0.005):
            new = counter.with_name("new")
            new.write_text(f"{int((time.monotonic() - begin) * WATTS * 1e6) % SPAN}\n")
            new.rename(counter)

    meter = threading.Thread(target=count, daemon=True)
    meter.start()
    yield root
    done.set()
    meter.join()


def find_compiler() -> Toolchain:
    """Returns the distribution's cross compiler, which is quick; skips where there is none."""
    found = {item.name: item for item in list_toolchains(load_profile("rpi4"))}
    if "aarch64-linux-gnu" not in found:
        pytest.skip("no aarch64-linux-gnu-g++")
    return found["aarch64-linux-gnu"]


def check_times(measured: Measurement, bundle: Bundle) -> None:
    assert measured.label.startswith("measured on ")
    assert measured.answers == "equal"
    assert measured.latency is not None
    assert 0 < measured.latency.min_ms <= measured.latency.median_ms <= measured.latency.p90_ms
    assert measured.latency.runs >= 15
    assert [layer.op for layer in measured.layers] == [row.op for row in bundle.digests]
    assert measured.peak_bytes
    json.dumps(measured.to_dict())


@pytest.mark.slow
def test_this_machine_is_measured_as_a_folder(make_bundle: Callable[..., Bundle], tmp_path) -> None:
    bundle = make_bundle("host")
    measured = edgekit.benchmark_on(bundle.path, f"dir://{tmp_path}", seconds=0.2)
    check_times(measured, bundle)
    assert measured.emulated == ""
    # What was sent is gone.
    assert not list(Path("/tmp").glob("edgekit-bench.*/*-model.plan"))
    # The bundle's one file is the same.
    file = pack_bundle(bundle.path, tmp_path / "host.bundle")
    again = edgekit.benchmark_on(file, "local", seconds=0.1)
    assert again.bundle == measured.bundle


@pytest.mark.slow
def test_a_device_is_measured_over_ssh_with_its_sensors(
    make_bundle: Callable[..., Bundle], sensors: Path, sshd: LocalSshd, monkeypatch
) -> None:
    monkeypatch.setenv("EDGEKIT_SSH_OPTIONS", sshd.options)
    bundle = make_bundle("host")
    told: list[str] = []
    measured = benchmark_on(
        bundle.path,
        sshd.url(),
        seconds=1.0,
        idle_seconds=1.6,
        sys_root=str(sensors),
        tell=told.append,
    )
    check_times(measured, bundle)
    assert "timing" in told
    ina, rapl = measured.energy
    # The counter never rests: an inference costs what it draws anyway, and about nothing above idle.
    assert rapl.rail == "rapl package-0"
    assert rapl.run_w == pytest.approx(WATTS, rel=0.15)
    assert rapl.idle_w == pytest.approx(WATTS, rel=0.15)
    assert abs(rapl.inference_j) < 0.3 * rapl.gross_inference_j
    assert ina.rail == "ina3221 VDD_IN"
    assert ina.run_w == pytest.approx(2.0)
    assert ina.inference_j == pytest.approx(0, abs=1e-9)
    runs = measured.latency.runs + 1
    seconds = float(measured.conditions["run_seconds"])
    assert ina.gross_inference_j == pytest.approx(2.0 * seconds / runs, rel=0.02)
    (zone,) = measured.temperatures
    assert (zone.name, zone.before, zone.highest) == ("cpu-thermal", 81, 81)
    assert measured.clocks[0].highest == 1500
    signs = " ".join(measured.throttling)
    for words in (
        "81 degrees",
        "cpufreq-cpu0 slows it down",
        "cores 0 are limited to 1500 MHz of 2000",
        "no core ran above 1500 MHz",
    ):
        assert words in signs
    assert measured.conditions["governor"] == "performance"
    assert "subtracted" in measured.conditions["idle"]


@pytest.mark.slow
def test_a_bundle_that_is_installed_runs_where_it_is(
    make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    bundle = make_bundle("host")
    key = make_key()
    (tmp_path / "team.pub").write_text(key.public.to_text())
    sign_bundle(bundle.path, key)
    address = f"dir://{tmp_path}/root"
    edgekit.flash(bundle.path, address, key=tmp_path / "team.pub")
    measured = benchmark_on(bundle.path, address, seconds=0.05)
    assert measured.answers == "equal"
    assert measured.conditions["program"] == f"installed in {tmp_path}/root/slots/a"


def test_a_bundle_that_computes_otherwise_is_told(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle("host")
    digests = bundle.path / "golden/digests.json"
    rows = json.loads(digests.read_text())
    rows[1]["sha256"] = "0" * 64
    digests.write_text(json.dumps(rows))
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    manifest["files"]["golden/digests.json"] = describe_file(digests)
    (bundle.path / "manifest.json").write_text(json.dumps(manifest))
    measured = benchmark_on(bundle.path, "local", seconds=0.05)
    assert measured.answers == f"DIFFERENT, first in {rows[1]['op']}"


@pytest.mark.cross
def test_an_emulated_device_gets_no_times(make_bundle: Callable[..., Bundle], tmp_path) -> None:
    if shutil.which("qemu-aarch64-static") is None:
        pytest.skip("no qemu-aarch64-static")
    bundle = make_bundle("rpi4", find_compiler())
    measured = benchmark_on(bundle.path, f"dir://{tmp_path}")
    assert measured.answers == "equal"
    assert measured.label.startswith(EMULATED)
    assert "cortex-a72" in measured.emulated
    assert measured.latency is None
    assert measured.layers == ()
    assert "no time was taken" in measured.notes[0]


@pytest.mark.cross
def test_a_device_of_another_architecture_is_refused(
    make_bundle: Callable[..., Bundle], sshd: LocalSshd, monkeypatch
) -> None:
    monkeypatch.setenv("EDGEKIT_SSH_OPTIONS", sshd.options)
    bundle = make_bundle("rpi4", find_compiler())
    with pytest.raises(TargetError, match="the bundle is for Raspberry Pi 4"):
        benchmark_on(bundle.path, sshd.url())


def test_what_cannot_be_measured_is_said_in_words(make_bundle, tmp_path, sshd) -> None:
    with pytest.raises(PlanError):
        benchmark_on(tmp_path / "nothing", "local")
    bundle = make_bundle("host")
    for address, words in (
        ("pi@host", "a device is ssh://"),
        ("dir://relative", "absolute"),
        ("ssh://127.0.0.1:1", "nothing listens"),
    ):
        with pytest.raises(edgekit.EdgekitError, match=words):
            benchmark_on(bundle.path, address)


@pytest.mark.parametrize(("closed", "where"), [([], "/tmp/"), (["/tmp"], "/var/tmp/")])
def test_programs_go_where_programs_may_run(closed: list[str], where: str) -> None:
    """Some devices mount /tmp so that nothing runs from it."""
    mounts = "".join(f"mount -t tmpfs -o noexec tmpfs {folder} && " for folder in closed)

    class Hardened(LocalShell):
        def run(self, command: str, **how: Any) -> Completed:
            words = ["unshare", "-m", "sh", "-c", f"{mounts} sh -c {shlex.quote(command)}"]
            return super().run(shlex.join(words), **how)

    if Hardened().run("true", check=False).status != 0:
        pytest.skip("no mounts of its own for a process")
    made = make_folder(Hardened())
    assert made.startswith(where)
    if not closed:
        Path(made).rmdir()


def test_a_device_that_runs_nothing_is_told() -> None:
    class Closed(LocalShell):
        def run(self, command: str, **how: Any) -> Completed:
            return super().run(f"mktemp() {{ false; }}\n{command}", **how)

    with pytest.raises(ToolError, match="no folder to run a program from"):
        make_folder(Closed())


def test_a_program_that_fails_there_is_told(
    make_bundle: Callable[..., Bundle], monkeypatch
) -> None:
    bundle = make_bundle("host")
    monkeypatch.setattr(measure, "_make_words", lambda files, threads: (files.runner, "/no/plan"))
    with pytest.raises(ToolError, match="/no/plan"):
        benchmark_on(bundle.path, "local")


@pytest.fixture(scope="module")
def own_profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return edgekit.probe("local", output=tmp_path_factory.mktemp("own") / "own.toml").profile


@pytest.fixture
def profile(own_profile: Profile, tmp_path: Path) -> Path:
    """A probed profile of this machine with a clock, whatever it tells of it."""
    source = {**own_profile.cpu.source, "clock_mhz": "a test's"}
    cpu = dataclasses.replace(
        own_profile.cpu, clock_mhz=2000, isa=_native.best_isa(), source=source
    )
    path = tmp_path / "boards/own.toml"
    path.parent.mkdir()
    write_profile(path, dataclasses.replace(own_profile, cpu=cpu), heading="Mine.")
    return path


def test_a_record_is_kept_signed_and_fits_the_profile(
    make_bundle: Callable[..., Bundle], small_program: Program, profile: Path
) -> None:
    bundle = make_bundle("host")
    measured = benchmark_on(bundle.path, "local", seconds=0.1)
    key = make_key()
    before = read_profile(profile)
    record, speed = store(measured, profile, key)
    assert record.parent == profile.parent / "measured/own"
    (kept,) = list_records(profile, key.public)
    assert kept == json.loads(json.dumps(measured.to_dict()))
    after = read_profile(profile)
    assert after.speed == speed
    assert dataclasses.replace(after, speed=before.speed) == before
    assert profile.read_text().startswith("# Mine.\n")
    assert after.speed.source["int8_products"].startswith("measured on ")
    assert "no layer of this kind" in after.speed.source["float_products"]
    # What deploy computes of these layers is, in sum, what they took.
    model = CostModel.of_profile(after, after.isa)
    kinds = ("Conv", "FullyConnected")
    products = sum(layer.products for layer in measured.layers if layer.kind in kinds)
    took = sum(layer.median_us for layer in measured.layers if layer.kind in kinds)
    assert products / model.speed.int8_products / model.clock_mhz == pytest.approx(took, rel=1e-3)
    # Another record of the same plan takes the older one's place, and keeps it.
    slower = [
        dataclasses.replace(layer, median_us=2 * layer.median_us) for layer in measured.layers
    ]
    store(dataclasses.replace(measured, layers=tuple(slower)), profile, key)
    assert len(list_records(profile)) == 2
    halved = read_profile(profile).speed.int8_products
    assert halved == pytest.approx(speed.int8_products / 2, rel=2e-3)


def test_a_changed_or_unsigned_record_is_refused(make_bundle, profile: Path) -> None:
    measured = benchmark_on(make_bundle("host").path, "local", seconds=0.05)
    key = make_key()
    record, _ = store(measured, profile, key)
    record.write_text(record.read_text().replace('"runs": ', '"runs": 1'))
    with pytest.raises(SignatureError):
        list_records(profile, key.public)
    store(measured, profile)
    record.unlink()
    with pytest.raises(SignatureError, match="not signed"):
        list_records(profile, key.public)
    next((profile.parent / "measured/own").glob("*.json")).write_text("{}")
    with pytest.raises(TargetError, match="no record"):
        list_records(profile)


def test_shipped_profiles_and_other_boards_keep_no_records(make_bundle, profile: Path) -> None:
    measured = benchmark_on(make_bundle("host").path, "local", seconds=0.05)
    with pytest.raises(TargetError, match="ships"):
        store(measured, PROFILES_DIR / "rpi4.toml")
    other = dataclasses.replace(measured, device={**measured.device, "architecture": "riscv64"})
    with pytest.raises(TargetError, match="riscv64"):
        store(other, profile)
    assert not (profile.parent / "measured").exists()


def make_record(clock_mhz: int, speed: Speed, threads: int = 1, **changes: object) -> dict:
    """Returns a record whose layers take exactly what a speed says."""
    rates = {
        "Conv": speed.int8_products,
        "DepthwiseConv": speed.int8_depthwise_products,
        "FloatConv": speed.float_products,
        "FloatDepthwiseConv": speed.float_depthwise_products,
    }
    layers = [
        {"op": kind, "kind": kind, "kernel": "", "products": n, "values": 1, "bytes": 1}
        | {"median_us": n / (rate * clock_mhz)}
        for kind, rate in rates.items()
        for n in (10**5, 10**7)
    ]
    for kind, what, rate in (
        ("Quantize", "values", speed.quantized_values),
        ("Concat", "bytes", speed.load_bytes),
    ):
        row = {"op": kind, "kind": kind, "kernel": "", "products": 0, "values": 1, "bytes": 1}
        layers.append(row | {what: 10**6, "median_us": 10**6 / (rate * clock_mhz)})
    return {
        "bundle": {"isa": "arm_neon", "plan_sha256": "a" * 64},
        "taken": "2026-01-01T00:00:00+00:00",
        "device": {"title": "A board"},
        "edgekit": "0.1.0",
        "latency": {"threads": threads},
        "layers": layers,
    } | changes


def test_a_fit_finds_the_speed_that_made_the_times() -> None:
    profile = load_profile("rpi3")
    real = Speed(5.0, 2.5, 2.25, 1.5, 0.25, 12.0)
    found = fit_speed([make_record(1200, real)], profile)
    for key in ("int8_products", "float_products", "quantized_values", "load_bytes"):
        assert getattr(found, key) == pytest.approx(getattr(real, key), rel=1e-3)
    assert set(found.source) == {key for key in vars(found) if key != "source"}


def test_a_fit_leaves_out_what_says_nothing_of_one_core() -> None:
    profile = load_profile("rpi3")
    real = Speed(5.0, 2.5, 2.25, 1.5, 0.25, 12.0)
    assert fit_speed([], profile) is None
    assert fit_speed([make_record(1200, real, threads=4)], profile) is None
    assert fit_speed([make_record(1200, real, latency=None)], profile) is None
    other = {"isa": "arm_neondot", "plan_sha256": "b" * 64}
    assert fit_speed([make_record(1200, real, bundle=other)], profile) is None
    unclocked = dataclasses.replace(profile, cpu=dataclasses.replace(profile.cpu, clock_mhz=None))
    assert fit_speed([make_record(1200, real)], unclocked) is None


@pytest.mark.slow
def test_the_command_prints_keeps_and_signs(make_bundle, profile: Path, tmp_path: Path) -> None:
    bundle = make_bundle("host")
    key = make_key()
    write_key_files(key, tmp_path / "team.key", tmp_path / "team.pub", None)
    words = ["bench", str(bundle.path), "--on", "local", "--seconds", "0.1"]
    extra = ["--store", str(profile), "--sign-with", str(tmp_path / "team.key")]
    result = CliRunner().invoke(app, [*words, *extra], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    for part in ("measured on ", "answers: equal", "latency: median", "signed", "[speed] is now"):
        assert part in result.stdout
    assert len(list_records(profile, key.public)) == 1
    result = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    facts = json.loads(result.stdout)
    assert facts["latency"]["runs"] >= 15
    assert facts["record"] is None
    for wrong in (["--sign-with", "x"], ["--peers"], ["--batch", "2"]):
        assert CliRunner().invoke(app, [*words, *wrong]).exit_code != 0
