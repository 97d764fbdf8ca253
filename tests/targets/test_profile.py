import dataclasses
import platform
from pathlib import Path

import pytest

from edgekit.targets import profile as profile_module
from edgekit.targets.errors import TargetError
from edgekit.targets.profile import ISAS, list_profiles, load_profile

VALID = """
name = "mine"
title = "My board"
[cpu]
model = "Arm Cortex-A55"
isa = "arm_neondot"
cores = 2
[cpu.source]
cores = "its data sheet"
[system]
os = "Linux"
libc = "musl"
triple = "aarch64-linux-musl"
toolchains = ["aarch64-linux-gnu"]
[delivery]
default = "native"
available = ["native"]
onnx_style = "ort-arm"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_shipped_profile_is_valid() -> None:
    assert list_profiles() == [
        "armv7",
        "armv8.6-a",
        "host",
        "imx8mp",
        "jetson-nano",
        "jetson-orin-nano",
        "jetson-xavier-nx",
        "riscv64",
        "rk3588",
        "rpi-zero2w",
        "rpi3",
        "rpi4",
        "rpi5",
        "x86-64-v2",
        "x86-64-v3",
        "x86-64-v4",
    ]
    for name in list_profiles():
        assert load_profile(name).name == name


@pytest.mark.parametrize(
    ("name", "isa", "emulator_cpu"),
    [
        ("rpi3", "arm_neon", "cortex-a53"),
        ("rpi4", "arm_neon", "cortex-a72"),
        ("rpi5", "arm_neondot", "cortex-a76"),
        ("armv8.6-a", "arm_i8mm", "max"),
        ("rpi-zero2w", "arm_neon", "cortex-a53"),
        ("imx8mp", "arm_neon", "cortex-a53"),
        ("rk3588", "arm_neondot", "cortex-a76"),
        ("armv7", "generic", "cortex-a7"),
        ("riscv64", "generic", "rv64"),
        ("x86-64-v2", "generic", "Nehalem-v2"),
        ("x86-64-v3", "x86_avx2", "Haswell-v4"),
        ("x86-64-v4", "x86_avx512vnni", None),
    ],
)
def test_instruction_set_and_emulator(name: str, isa: str, emulator_cpu: str | None) -> None:
    profile = load_profile(name)
    assert (profile.isa, profile.emulator_cpu) == (isa, emulator_cpu)
    assert profile.onnx_style == ("ort-x86" if name.startswith("x86") else "ort-arm")


@pytest.mark.parametrize(
    ("name", "isa", "style", "has_int8", "dla_cores"),
    [
        ("jetson-nano", "arm_neon", "tensorrt-float", False, None),
        ("jetson-xavier-nx", "arm_neon", "tensorrt", True, 2),
        ("jetson-orin-nano", "arm_neondot", "tensorrt", True, None),
    ],
)
def test_jetsons(name, isa, style, has_int8, dla_cores) -> None:
    profile = load_profile(name)
    assert (profile.isa, profile.onnx_style, profile.default_form) == (isa, style, "native")
    assert profile.gpu is not None
    assert (profile.gpu.has_int8, profile.gpu.dla_cores) == (has_int8, dla_cores)
    assert profile.onnx_opset == profile.gpu.onnx_opset
    assert profile.emulator_cpu is not None


def test_host_takes_its_cache_from_this_machine(monkeypatch, tmp_path) -> None:
    for name, level, size in (
        ("index0", "1", "32K"),
        ("index1", "2", "768K"),
        ("index2", "3", "8M"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "level").write_text(level + "\n")
        (tmp_path / name / "size").write_text(size + "\n")
    monkeypatch.setattr(profile_module, "_CACHES", tmp_path)
    assert load_profile("host").cpu.l2_kib == 768
    (tmp_path / "index1" / "size").write_text("unknown")
    assert load_profile("host").cpu.l2_kib is None


def test_host_takes_its_architecture_from_this_machine() -> None:
    profile = load_profile("host")
    assert profile.isa == "auto"
    assert profile.system.architecture == platform.machine()


def test_isas_are_those_of_the_native_list() -> None:
    listed = Path(__file__).parents[2] / "csrc/isa/isa.inc"
    if not listed.exists():
        pytest.skip("no source tree beside the tests")
    rows = [line for line in listed.read_text().splitlines() if line.startswith("EDGEKIT_ISA_ROW")]
    assert tuple(row.split('"')[1] for row in rows) == tuple(isa for isa in ISAS if isa != "auto")


def test_own_profile_by_path(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, VALID))
    assert (profile.name, profile.cores, profile.cpu.l2_kib) == ("mine", 2, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "nearest"), [("rpi6", "rpi"), ("rasp5", "rpi5"), ("x86-64-v5", "x86-64-v")]
)
def test_unknown_name_gives_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(TargetError, match=f"unknown target '{name}'. Did you mean {nearest}"):
        load_profile(name)


def test_threads_are_pinned_where_a_profile_says_so(tmp_path: Path) -> None:
    assert load_profile("host").threads.pin == ()
    pinned = write(tmp_path, VALID.replace("[cpu]", "threads.pin = [1, 0]\n[cpu]", 1))
    assert load_profile(pinned).threads.pin == (1, 0)


def test_unknown_name_that_is_near_nothing_lists_all() -> None:
    with pytest.raises(
        TargetError, match=r"unknown target 'quux'\. Known: armv7, armv8\.6-a, host, imx8mp"
    ):
        load_profile("quux")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"absent\.toml: no such profile file"):
        load_profile(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cores = 2", "coers = 2", "unknown key 'cpu.coers'; did you mean 'cores'?"),
        ("[delivery]", "[cooling]\n[delivery]", "unknown key 'cooling'; known: name, title"),
        ("cores = 2", 'cores = "2"', "'cpu.cores' must be of type int, not str"),
        ("cores = 2", "cores = true", "'cpu.cores' must be of type int, not bool"),
        ("cores = 2", "cores = 0", "'cpu.cores' is 0, but must be positive"),
        ("cores = 2", "cores = 2\nclock_mhz = 9", "the figure 'cpu.clock_mhz' has no source"),
        ("cores = 2", "", "'cpu.source.cores' belongs to no figure"),
        ('cores = "its data sheet"', "cores = 7", "'cpu.source' must be a table of strings"),
        ('isa = "arm_neondot"', "", "the key 'cpu.isa' is missing"),
        ('"arm_neondot"', '"neon"', "'cpu.isa' is 'neon', but must be one of: auto, generic"),
        ('["native"]', '["native", "tensorrt"]', "'delivery.available' is 'tensorrt'"),
        ('default = "native"', 'default = "onnx"', "'delivery.default' is 'onnx'"),
        ('["native"]', '"native"', "'delivery.available' must be an array of strings"),
        ("[cpu]", "threads.pin = [0, 2]\n[cpu]", "'threads.pin' names core 2, but cores are"),
        ("[cpu]", "threads.pin = [-1]\n[cpu]", "'threads.pin' names core -1, but cores are"),
        ("[cpu]", "threads.pin = [1, 1]\n[cpu]", "'threads.pin' names a core twice"),
        ("[cpu]", "threads.pin = [true]\n[cpu]", "must be an array of whole numbers"),
        ("[cpu]", "threads.pin = true\n[cpu]", "must be an array of whole numbers"),
        ("[cpu]", "speed.load_bytes = 16\n[cpu]", "'speed' must have all of its figures, or none"),
        ("[cpu]", "speed.float_rate = 16\n[cpu]", "unknown key 'speed.float_rate'"),
        ('"ort-arm"', '"tensorrt"', "there is no 'gpu'"),
        ('"ort-arm"', '"ort-mips"', "'delivery.onnx_style' is 'ort-mips'"),
        ('["aarch64-linux-gnu"]', '["gcc"]', "'system.toolchains' is 'gcc'"),
        ('name = "mine"', 'name = "yours"', "'name' is 'yours', but the file is 'mine.toml'"),
        ('title = "My board"', "title = My board", "not valid TOML"),
        ("[cpu]", "power = 3\n[cpu]", "'power' must be a table"),
        ("cores = 2", "cores = " + "9" * 5000, "not valid TOML"),
        ("cores = 2", "cores = " + "[" * 5000, "not valid TOML"),
        (
            "[cpu]",
            f"memory.bandwidth_gb_s = 1{'0' * 400}\n[cpu]",
            "'memory.bandwidth_gb_s' is too large",
        ),
        (
            'triple = "aarch64-linux-musl"',
            'triple = "auto"',
            "'system.triple' is 'auto', but must be",
        ),
        (
            'triple = "aarch64-linux-musl"',
            'triple = "../x"',
            "'system.triple' is '../x', but must be",
        ),
    ],
)
def test_invalid_profile_names_file_and_key(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in VALID
    path = write(tmp_path, VALID.replace(old, new, 1))
    with pytest.raises(TargetError) as caught:
        load_profile(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
