import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import edgekit.building.native_build
import edgekit.building.programs
from edgekit import ToolError
from edgekit.building.programs import PROGRAMS, Programs, build_programs, cache_dir
from edgekit.targets.profile import load_profile
from edgekit.targets.toolchain import find_toolchain

PROJECT = """
cmake_minimum_required(VERSION 3.24)
project(tiny CXX)
option(EDGEKIT_STATIC_RUNNER "" OFF)
add_executable(edgekit-run main.cc)
add_executable(edgekit-board main.cc)
if(EDGEKIT_STATIC_RUNNER)
  target_link_options(edgekit-run PRIVATE -static)
  target_link_options(edgekit-board PRIVATE -static)
endif()
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny project in place of the installed sources, and an empty cache."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "CMakeLists.txt").write_text(PROJECT)
    (folder / "main.cc").write_text("int main() { return 3; }")
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    for module in (edgekit.building.programs, edgekit.building.native_build):
        monkeypatch.setattr(
            module,
            "find_installed",
            lambda relative: folder if relative == "_source" else None,
        )
    return folder


def build(messages: list[str] | None = None) -> Programs:
    progress = None if messages is None else messages.append
    return build_programs(load_profile("host"), progress=progress)


def test_builds_once(source: Path) -> None:
    messages: list[str] = []
    programs = build(messages)
    assert programs.toolchain == "native"
    for path in (programs.runner, programs.board):
        assert subprocess.run([path], check=False).returncode == 3
    assert build(messages) == programs
    assert len(messages) == 1
    assert "building edgekit-run and edgekit-board for" in messages[0]
    assert {path.name for path in programs.folder.iterdir()} == set(PROGRAMS)


@pytest.mark.slow
def test_one_that_is_gone_is_built_again(source: Path) -> None:
    programs = build()
    programs.board.unlink()
    assert build().board.is_file()


def test_two_at_once_build_once(source: Path) -> None:
    messages: list[str] = []
    with ThreadPoolExecutor() as threads:
        folders = {built.folder for built in threads.map(lambda _: build(messages), range(2))}
    assert len(folders) == len(messages) == 1


@pytest.mark.slow
def test_a_changed_source_is_built_anew(source: Path) -> None:
    before = build()
    (source / "main.cc").write_text("int main() { return 4; }")
    after = build()
    assert before.folder != after.folder
    assert subprocess.run([after.runner], check=False).returncode == 4


def test_the_users_compiler_flags_have_no_part(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXXFLAGS", "-no-such-flag")
    assert build().runner.is_file()


def test_a_failed_build_says_why_and_leaves_nothing(source: Path) -> None:
    (source / "main.cc").write_text("int main() { return missing; }")
    with pytest.raises(ToolError, match=r"error: .missing. was not declared"):
        build()
    assert not [path for path in cache_dir().rglob("*") if path.is_file()]


def test_a_build_that_makes_nothing_is_refused(source: Path) -> None:
    (source / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.24)\nproject(none NONE)\n"
        "add_custom_target(edgekit-run)\nadd_custom_target(edgekit-board)\n"
    )
    with pytest.raises(ToolError, match="made no edgekit-run: is it a working compiler"):
        build()


def test_a_build_is_announced_and_leaves_nothing_else_in_the_cache(
    source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    programs = build()
    assert "building edgekit-run and edgekit-board for" in caplog.text
    found = {path for path in cache_dir().rglob("*") if path.is_file()}
    assert found == {programs.runner, programs.board}


def test_a_dynamic_program_is_refused(source: Path) -> None:
    dynamic = PROJECT.replace("edgekit-board PRIVATE -static", "edgekit-board PRIVATE -g")
    (source / "CMakeLists.txt").write_text(dynamic)
    with pytest.raises(ToolError, match="made no static edgekit-board for"):
        build()
    assert not [path for path in cache_dir().rglob("*") if path.is_file()]


def test_missing_cmake(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toolchain = find_toolchain(load_profile("host"))
    monkeypatch.setattr(edgekit.building.native_build, "find_program", lambda *names: None)
    with pytest.raises(ToolError, match="needs cmake: pip install cmake"):
        build_programs(load_profile("host"), toolchain=toolchain)


def test_missing_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (edgekit.building.programs, edgekit.building.native_build):
        monkeypatch.setattr(module, "find_installed", lambda relative: None)
    with pytest.raises(ToolError, match="native sources are missing"):
        build()


@pytest.mark.parametrize(
    ("own", "xdg", "expected"),
    [("/a", "/b", "/a"), (None, "/b", "/b/edgekit"), (None, None, "/home/me/.cache/edgekit")],
)
def test_cache_dir(
    own: str | None, xdg: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in (("EDGEKIT_CACHE", own), ("XDG_CACHE_HOME", xdg)):
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    assert cache_dir() == Path(expected)
