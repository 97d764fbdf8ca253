import dataclasses
import platform
from pathlib import Path

import pytest

from edgekit.targets.errors import ToolError
from edgekit.targets.profile import TOOLCHAINS, Profile, load_profile
from edgekit.targets.toolchain import CANDIDATES, find_program, find_toolchain, list_toolchains

OTHER = "aarch64" if platform.machine() == "x86_64" else "x86_64"


def profile_for(architecture: str, *toolchains: str) -> Profile:
    profile = load_profile("rpi4")
    system = dataclasses.replace(
        profile.system, triple=f"{architecture}-linux-gnu", toolchains=toolchains
    )
    return dataclasses.replace(profile, system=system)


def add_program(folder: Path, name: str, answer: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{answer}\n")
    path.chmod(0o755)


@pytest.fixture
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it, and no Python package that holds a compiler."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    return tmp_path


def test_every_toolchain_file_has_a_candidate() -> None:
    assert {"native", *TOOLCHAINS} == set(CANDIDATES)


def test_nothing_installed_says_how_to_get_each(empty_path: Path) -> None:
    with pytest.raises(ToolError) as caught:
        find_toolchain(profile_for(OTHER, "aarch64-linux-gnu", "zig-aarch64-linux-musl"))
    assert "apt install g++-aarch64-linux-gnu" in str(caught.value)
    assert "pip install 'edgekit[zig]'" in str(caught.value)


def test_no_toolchain_for_another_architecture(empty_path: Path) -> None:
    with pytest.raises(ToolError, match=f"Deploy on a {OTHER} machine"):
        find_toolchain(profile_for(OTHER))


def test_the_profile_says_which_comes_first(empty_path: Path) -> None:
    add_program(empty_path, "aarch64-linux-gnu-g++", "echo 'g++ 12'; echo more")
    add_program(empty_path, "zig", "echo 0.13")
    gcc_first = profile_for(OTHER, "aarch64-linux-gnu", "zig-aarch64-linux-musl")
    zig_first = profile_for(OTHER, "zig-aarch64-linux-musl", "aarch64-linux-gnu")
    assert (find_toolchain(gcc_first).name, find_toolchain(gcc_first).version) == (
        "aarch64-linux-gnu",
        "g++ 12",
    )
    assert find_toolchain(zig_first).defines == {"EDGEKIT_ZIG": str(empty_path / "zig")}
    assert len(list_toolchains(gcc_first)) == 2


def test_a_compiler_that_does_not_start_is_passed_over(empty_path: Path) -> None:
    add_program(empty_path, "aarch64-linux-gnu-g++", "exit 1")
    add_program(empty_path, "zig", "echo 0.13")
    profile = profile_for(OTHER, "aarch64-linux-gnu", "zig-aarch64-linux-musl")
    assert find_toolchain(profile).name == "zig-aarch64-linux-musl"


def test_own_architecture_takes_the_own_compiler(empty_path: Path) -> None:
    add_program(empty_path, "c++", "echo 'c++ 9'")
    toolchain = find_toolchain(profile_for(platform.machine()))
    assert (toolchain.name, toolchain.file) == ("native", None)


def test_programs_beside_this_python_are_found(
    empty_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    add_program(scripts, "cmake", "")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(scripts))
    assert find_program("absent", "cmake") == scripts / "cmake"
    assert find_program("absent") is None
