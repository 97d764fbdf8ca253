"""Applications in C and C++ against the delivered library compute the golden bytes on emulated boards."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit import ToolError
from edgekit.building.library import Library, build_library
from edgekit.bundles.bundle import Bundle
from edgekit.bundles.golden import read_array
from edgekit.targets.profile import load_profile
from edgekit.targets.toolchain import Toolchain, find_program, find_toolchain, list_toolchains

EXAMPLES = Path(__file__).parents[2] / "examples"
BOARDS = {
    "host": "",
    "rpi5": "aarch64-linux-gnu",
    "armv7": "arm-linux-gnueabihf",
    "riscv64": "riscv64-linux-gnu",
}


def find_compiler(board: str) -> Toolchain:
    profile = load_profile(board)
    if not BOARDS[board]:
        return find_toolchain(profile)
    there = {toolchain.name: toolchain for toolchain in list_toolchains(profile)}
    if BOARDS[board] not in there:
        pytest.skip(f"no {BOARDS[board]}")
    return there[BOARDS[board]]


def build_example(folder: Path, language: str, library: Library, *defines: str) -> Path:
    """Builds an example with the library's own compiler, as its page says; returns its build folder."""
    toolchain = find_compiler_of(library)
    words = ["cmake", "-S", EXAMPLES / language, "-B", folder, "-DCMAKE_BUILD_TYPE=Release"]
    words += [f"-Dedgekit_DIR={library.folder / 'lib/cmake/edgekit'}", *defines]
    if toolchain.file:
        words.append(f"-DCMAKE_TOOLCHAIN_FILE={toolchain.file}")
    for command in (words, ["cmake", "--build", folder]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def find_compiler_of(library: Library) -> Toolchain:
    board = next(
        name for name, chosen in BOARDS.items() if chosen == library.toolchain.replace("native", "")
    )
    return find_compiler(board)


def emulate(board: str) -> list[str]:
    """Returns the words before a program that needs the board's libraries."""
    if board == "host":
        return []
    profile = load_profile(board)
    emulator = find_program(
        *(f"qemu-{profile.system.architecture}{end}" for end in ("-static", ""))
    )
    if emulator is None:
        pytest.skip(f"no qemu-{profile.system.architecture}")
    return [str(emulator), "-cpu", str(profile.emulator_cpu), "-L", f"/usr/{profile.triple}"]


def get_golden(bundle: Bundle) -> tuple[bytes, bytes]:
    (given,) = bundle.inputs.values()
    (wanted,) = bundle.outputs.values()
    return read_array(given).tobytes(), read_array(wanted).tobytes()


@pytest.mark.cross
@pytest.mark.parametrize(
    "board",
    [
        "host",
        "rpi5",
        pytest.param("armv7", marks=[pytest.mark.slow, pytest.mark.long]),
        pytest.param("riscv64", marks=[pytest.mark.slow, pytest.mark.long]),
    ],
)
@pytest.mark.timeout(1800)
def test_applications_compute_the_golden_bytes(
    board: str, tmp_path: Path, make_bundle: Callable[..., Bundle]
) -> None:
    prefix = emulate(board)
    library = build_library(load_profile(board), toolchain=find_compiler(board))
    bundle = make_bundle(board, find_compiler(board) if board != "host" else None)
    given, wanted = get_golden(bundle)
    (tmp_path / "input").write_bytes(given)

    classify = build_example(tmp_path / "c", "c", library) / "classify"
    words = [*prefix, classify, bundle.plan, tmp_path / "input", tmp_path / "output"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "output").read_bytes() == wanted
    scores = np.frombuffer(wanted, np.float32)
    assert int(done.stdout.split()[0]) == int(scores.argmax())
    assert len(done.stdout.splitlines()) == 5

    for defines in ((), ("-DSTATIC=ON",)):
        stream = build_example(tmp_path / f"cpp{len(defines)}", "cpp", library, *defines) / "stream"
        before = prefix[:-2] if defines else prefix
        streamed = subprocess.run(
            [*before, stream, bundle.plan, "2"], input=given * 3, capture_output=True, check=False
        )
        assert streamed.returncode == 0, streamed.stderr
        assert streamed.stdout == wanted * 3
        assert streamed.stderr.startswith(b"3 runs, median ")


@pytest.mark.cross
@pytest.mark.timeout(900)
def test_applications_refuse_in_words(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> None:
    library = build_library(load_profile("host"), toolchain=find_compiler("host"))
    bundle = make_bundle("host")
    classify = build_example(tmp_path / "c", "c", library) / "classify"
    (tmp_path / "short").write_bytes(b"1")
    for words, message in (
        ([bundle.plan, tmp_path / "short"], "the network's input has"),
        ([tmp_path / "short", tmp_path / "short"], "not a plan"),
        ([bundle.plan, tmp_path / "none"], "No such file"),
    ):
        done = subprocess.run([classify, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert message in done.stderr
    stream = build_example(tmp_path / "cpp", "cpp", library) / "stream"
    cut = subprocess.run([stream, bundle.plan], input=b"12", capture_output=True, check=False)
    assert (cut.returncode, b"in the middle of an input" in cut.stderr) == (1, True)


@pytest.mark.cross
@pytest.mark.timeout(900)
def test_the_shared_library_shows_its_c_api_alone_and_needs_the_c_library_alone() -> None:
    library = build_library(load_profile("host"), toolchain=find_compiler("host"))
    assert sorted(library.files) == [
        "include/edgekit.h",
        "lib/cmake/edgekit/edgekit-config-version.cmake",
        "lib/cmake/edgekit/edgekit-config.cmake",
        "lib/libedgekit.a",
        "lib/libedgekit.so",
    ]
    nm = find_program("nm")
    objdump = find_program("objdump")
    if nm is None or objdump is None:
        pytest.skip("no binutils")
    shared = library.folder / "lib/libedgekit.so"
    symbols = subprocess.run(
        [nm, "-D", "--defined-only", shared], capture_output=True, text=True, check=True
    )
    names = {line.split()[-1] for line in symbols.stdout.splitlines()}
    header = (library.folder / "include/edgekit.h").read_text()
    assert {name for name in names if not name.startswith("edgekit_")} == set()
    assert all(f" {name}(" in header or f"* {name}(" in header for name in names)
    headers = subprocess.run([objdump, "-p", shared], capture_output=True, text=True, check=True)
    needed = {line.split()[1] for line in headers.stdout.splitlines() if "NEEDED" in line}
    assert {name.split(".")[0] for name in needed} <= {"libc", "libm", "ld-linux-x86-64"}


def test_without_a_compiler_it_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ToolError, match=r"apt install g\+\+-aarch64-linux-gnu.*|edgekit\[zig\]"):
        build_library(load_profile("rpi5"))
