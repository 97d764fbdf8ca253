"""Dumps of devices become profiles; what is no dump, or lacks something, says so."""

import dataclasses
import os
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.targets.errors import EdgekitError, TargetError
from edgekit.targets.probe.cores import format_numbers
from edgekit.targets.probe.dump import PROBE_SCRIPT, Dump, natural_order, parse_dump, read_dump
from edgekit.targets.probe.make_profile import Probed, check_name, make_profile
from edgekit.targets.profile import load_profile, read_profile
from edgekit.targets.write_profile import format_profile, write_profile

DUMPS = Path(__file__).parent / "dumps"
NAMES = sorted(path.stem for path in DUMPS.glob("*.txt"))


def read(name: str) -> Probed:
    return make_profile(read_dump(DUMPS / f"{name}.txt"), "mine", source=name)


@pytest.mark.parametrize(
    ("name", "isa", "model", "clock_mhz", "l2_kib", "like"),
    [
        ("rpi3", "arm_neon", "Cortex-A53", 1200, 512, "rpi3"),
        ("rpi4", "arm_neon", "Cortex-A72", 1800, 1024, "rpi4"),
        ("rpi5", "arm_neondot", "Cortex-A76", 2400, 512, "rpi5"),
        ("rk3588", "arm_neondot", "Cortex-A76 and Cortex-A55", 2400, 512, "rk3588"),
        ("jetson-nano", "arm_neon", "Cortex-A57", 1479, 2048, "jetson-nano"),
        ("jetson-orin-nano", "arm_neondot", "Cortex-A78AE", 1510, 256, "jetson-orin-nano"),
        ("imx8mp", "arm_neon", "Cortex-A53", 1800, 512, "imx8mp"),
        ("armv7", "generic", "Cortex-A7", 900, None, None),
        ("riscv64", "generic", "sifive,u74-mc", 1500, 2048, None),
        ("x86-laptop", "x86_avxvnni", "12th Gen Intel(R) Core(TM) i5-1240P", 4400, 1280, None),
        ("qemu-virt-a72", "arm_neon", "Cortex-A72", None, None, None),
    ],
)
def test_a_dump_says_what_the_board_is(name, isa, model, clock_mhz, l2_kib, like) -> None:
    probed = read(name)
    cpu = probed.profile.cpu
    assert (cpu.isa, cpu.model, cpu.clock_mhz, cpu.l2_kib, probed.like) == (
        isa,
        model,
        clock_mhz,
        l2_kib,
        like,
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_probed_profile_reads_back_and_each_figure_has_its_source(name, tmp_path) -> None:
    probed = read(name)
    path = tmp_path / "mine.toml"
    write_profile(path, probed.profile, heading="Probed.")
    assert read_profile(path) == probed.profile
    dump = read_dump(DUMPS / f"{name}.txt")
    own = 0
    for section in (probed.profile.cpu, probed.profile.memory, probed.profile.thermal):
        for source in section.source.values():
            path_read = source.split(":")[0]
            if path_read.startswith("/"):
                own += 1
                assert path_read in dump.files, source
    assert own > 0


def test_cores_that_differ_are_named_and_threads_belong_on_the_fast_ones() -> None:
    rk3588 = read("rk3588").profile
    assert rk3588.threads.pin == (4, 5, 6, 7)
    assert rk3588.cpu.clusters[-1] == "0-3: Cortex-A55, 1800 MHz"
    # The second thread of a core is no core.
    assert read("x86-laptop").profile.threads.pin == (0, 2, 4, 6)
    assert read("rpi5").profile.threads.pin == ()


def test_cores_that_differ_without_a_word_which_are_fast_are_missing() -> None:
    dump = read_dump(DUMPS / "rk3588.txt")
    files = {
        path: text
        for path, text in dump.files.items()
        if "cpufreq" not in path and "cpu_capacity" not in path
    }
    probed = make_profile(dataclasses.replace(dump, files=files), "mine", source="x")
    assert probed.profile.threads.pin == ()
    assert any(line.startswith("threads.pin") for line in probed.missing)


def test_power_rails_are_those_whose_power_is_told() -> None:
    assert [rail.name for rail in read("jetson-orin-nano").rails] == [
        "ina3221 VDD_IN",
        "ina3221 VDD_CPU_GPU_CV",
        "ina3221 VDD_SOC",
    ]
    assert [rail.kind for rail in read("jetson-nano").rails] == ["milliwatts"] * 3
    laptop = read("x86-laptop")
    rapl = [rail for rail in laptop.rails if rail.kind == "energy"]
    assert [rail.name for rail in rapl] == ["rapl package-0", "rapl core", "rapl uncore"]
    assert {rail.range_uj for rail in rapl} == {262143328850}
    assert not any(rail.readable for rail in rapl)
    assert any(line.startswith("energy") for line in laptop.missing)
    # A converter of voltages without currents tells no power.
    assert read("rpi5").rails == ()


def test_heat_and_accelerators() -> None:
    orin = read("jetson-orin-nano").profile
    assert orin.thermal.throttle_c == 99
    assert orin.accelerators.libraries[1] == (
        "TensorRT 8.6.2: /usr/lib/aarch64-linux-gnu/libnvinfer.so.8.6.2"
    )
    assert "/dev/galcore" in read("imx8mp").profile.accelerators.devices
    assert read("rpi4").profile.accelerators.libraries[0].startswith("Edge TPU 1.0")


@pytest.mark.parametrize(
    ("name", "libc"),
    [("rpi4", "glibc 2.36"), ("jetson-nano", "glibc 2.27"), ("imx8mp", "glibc 2.39")],
)
def test_libc(name, libc) -> None:
    assert read(name).profile.system.libc == libc


@pytest.mark.parametrize("name", ["armv7", "riscv64"])
def test_boards_of_other_architectures_are_built_for_as_shipped_ones(name) -> None:
    probed, shipped = read(name).profile.system, load_profile(name).system
    assert (probed.triple, probed.toolchains, probed.emulator_cpu) == (
        shipped.triple,
        shipped.toolchains,
        shipped.emulator_cpu,
    )


def test_musl_is_found_by_its_loader() -> None:
    words = "/lib/ld-musl-aarch64.so.1"
    printed = {
        "uname -m": "aarch64",
        words: "musl libc (aarch64)\nVersion 1.2.4\nDynamic Program Loader",
    }
    probed = make_profile(Dump({}, printed), "mine", source="x")
    assert probed.profile.system.libc == "musl 1.2.4"
    assert probed.profile.triple == "aarch64-linux-musl"


def test_emulators_are_told_from_boards() -> None:
    assert "linux,dummy-virt" in read("qemu-virt-a72").device.emulation
    for name in NAMES:
        if not name.startswith("qemu"):
            assert read(name).device.emulation == ""
    # qemu's user emulator: programs see one processor, /proc/cpuinfo is another's.
    laptop = read_dump(DUMPS / "x86-laptop.txt")
    words = {"uname -m": "aarch64"}
    device = make_profile(Dump(laptop.files, words), "mine", source="x").device
    assert "user emulator" in device.emulation
    assert device.features == frozenset()


def test_a_kernel_may_do_less_than_the_processor() -> None:
    """What AT_HWCAP lacks, programs must not use, whatever /proc/cpuinfo says."""
    dump = read_dump(DUMPS / "rpi5.txt")
    words = dict(dump.commands)
    auxv = bytes.fromhex("".join(words["od /proc/self/auxv"].split()))
    at = auxv.index((16).to_bytes(8, "little")) + 8
    bits = int.from_bytes(auxv[at : at + 8], "little") & ~(1 << 20)
    auxv = auxv[:at] + bits.to_bytes(8, "little") + auxv[at + 8 :]
    words["od /proc/self/auxv"] = auxv.hex(" ")
    assert make_profile(Dump(dump.files, words), "mine", source="x").profile.isa == "arm_neon"


@pytest.mark.parametrize("shell", [["sh"], ["busybox", "sh"], ["dash"], ["bash", "--posix"]])
def test_the_script_prints_a_dump_of_this_machine(shell, tmp_path) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]}")
    done = subprocess.run([*shell, PROBE_SCRIPT], check=True, capture_output=True, cwd=tmp_path)
    assert done.stderr == b""
    probed = make_profile(parse_dump(done.stdout, "here"), "mine", source="here")
    assert probed.profile.system.architecture == os.uname().machine
    assert probed.profile.cores >= len(os.sched_getaffinity(0))
    assert list(tmp_path.iterdir()) == []


def test_the_script_reads_a_tree_and_names_what_it_may_not_read(tmp_path) -> None:
    zone = tmp_path / "sys/class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0\n")
    (zone / "energy_uj").write_text("5\n")
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/cpuinfo").write_text(
        "processor\t: 0\nSerial\t\t: 00000000deadbeef\nCPU architecture: 7"
    )
    (tmp_path / "proc/device-tree/compatible").write_bytes(b"radxa,rock-5b\0rockchip,rk3588\0")
    words = ["sh", str(PROBE_SCRIPT), "--sys", str(tmp_path)]
    printed = subprocess.run(words, check=True, capture_output=True).stdout
    dump = parse_dump(printed, "tree")
    assert dump.text("/proc/device-tree/compatible") == "radxa,rock-5b\nrockchip,rk3588"
    assert dump.number("/sys/class/powercap/intel-rapl:0/energy_uj") == 5
    # A board's serial number is nobody's business.
    assert b"deadbeef" not in printed
    assert "CPU architecture: 7" in dump.files["/proc/cpuinfo"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "must begin with"),
        (b"hello\n", "must begin with"),
        (b"edgekit-probe 1\n", "breaks off"),
        (b"edgekit-probe 1\n== /proc/cpuinfo\n processor : 0\n", "breaks off"),
        (b"edgekit-probe 1\n content of nothing\n=. end\n", "line 2"),
        (b"edgekit-probe 1\n== relative\n=. end\n", "line 2"),
        (b"edgekit-probe 1\n=. end\nmore\n", "line 3"),
        (b"edgekit-probe 1\n=. end\n", "no architecture"),
        (b"edgekit-probe 1\n=$ uname -m\n mips64\n=. end\n", "mips64"),
        (b"edgekit-probe 1\n=$ uname -s\n Darwin\n=$ uname -m\n arm64\n=. end\n", "Darwin"),
    ],
)
def test_what_is_no_dump_is_refused_in_words(content, words) -> None:
    with pytest.raises(TargetError, match=words):
        make_profile(parse_dump(content, "device"), "mine", source="device")


def _mutate(data: st.DataObject, lines: list[bytes]) -> bytes:
    """Returns a dump with lines cut, doubled, moved or with other bytes."""
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(lines) - 1))
        match data.draw(st.integers(0, 4)):
            case 0:
                del lines[at : at + data.draw(st.integers(1, 40))]
            case 1:
                lines[at] = data.draw(st.binary(max_size=40))
            case 2:
                lines[at] = b" " + data.draw(st.text(max_size=40)).encode("utf-8", "surrogatepass")
            case 3:
                lines[at] = b" " + str(data.draw(st.integers(-(10**25), 10**25))).encode()
            case 4:
                lines.insert(at, lines[data.draw(st.integers(0, len(lines) - 1))])
        if not lines:
            lines = [b""]
    return b"\n".join(lines)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_damaged_dump_gives_a_valid_profile_or_one_error(data) -> None:
    content = (DUMPS / f"{data.draw(st.sampled_from(NAMES))}.txt").read_bytes()
    damaged = _mutate(data, content.split(b"\n"))
    try:
        probed = make_profile(parse_dump(damaged, "device"), "mine", source="device")
    except TargetError:
        return
    # What was read is a profile by all of its rules, whatever is missing.
    assert tomllib.loads(format_profile(probed.profile))["name"] == "mine"
    _read_back(probed)


def _read_back(probed: Probed) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.toml"
        write_profile(path, probed.profile)
        assert read_profile(path) == probed.profile


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_in_words(content) -> None:
    with pytest.raises(TargetError):
        make_profile(parse_dump(content, "device"), "mine", source="device")


@settings(deadline=None)
@given(st.sets(st.integers(0, 70)))
def test_numbers_are_listed_as_linux_does(numbers) -> None:
    read_back: set[int] = set()
    for part in filter(None, format_numbers(sorted(numbers)).split(",")):
        first, _, last = part.partition("-")
        read_back |= set(range(int(first), int(last or first) + 1))
    assert read_back == numbers


def test_hwmon10_comes_after_hwmon9() -> None:
    paths = [f"/sys/class/hwmon/hwmon{n}/name" for n in (10, 9, 1, 100)]
    assert sorted(paths, key=natural_order) == [
        f"/sys/class/hwmon/hwmon{n}/name" for n in (1, 9, 10, 100)
    ]


@pytest.mark.parametrize("name", ["", "rpi4", "../x", "-x", "a b", "x" * 80])
def test_names_that_a_profile_cannot_have(name) -> None:
    with pytest.raises(EdgekitError):
        check_name(name)
