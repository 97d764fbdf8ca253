"""Builds a board's static programs, edgekit-run and edgekit-board, and keeps what was built.

Programs are found again by the digest of everything that they are made of: sources, toolchain file, compiler version
and CMake's arguments. So a changed source is never served from the cache, and an unchanged one is never built twice.
"""

import fcntl
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import edgekit
from edgekit.elf import is_static_elf
from edgekit.targets.errors import ToolError
from edgekit.targets.profile import Profile
from edgekit.targets.toolchain import Toolchain, find_program, find_toolchain

logger = logging.getLogger(__name__)

RUNNER_NAME = "edgekit-run"
BOARD_NAME = "edgekit-board"
PROGRAMS = (RUNNER_NAME, BOARD_NAME)


@dataclass(frozen=True)
class Programs:
    """A board's static programs.

    Attributes:
        folder: Where they lie.
        toolchain: Stem of the toolchain file, "native", or "installed" for those that came with edgekit.
        compiler: What the compiler says of itself, None if they came with edgekit.
    """

    folder: Path
    toolchain: str
    compiler: str | None

    @property
    def runner(self) -> Path:
        """edgekit-run, which runs plans."""
        return self.folder / RUNNER_NAME

    @property
    def board(self) -> Path:
        """edgekit-board, which keeps bundles in slots."""
        return self.folder / BOARD_NAME


def cache_dir() -> Path:
    """Returns the folder for what can be made again: EDGEKIT_CACHE, or `edgekit` in the user's cache."""
    if own := os.environ.get("EDGEKIT_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgekit"


def find_installed(relative: str) -> Path | None:
    """Finds a file or folder that CMake installed beside the package."""
    for folder in edgekit.__path__:
        if (path := Path(folder) / relative).exists():
            return path
    return None


def build_programs(
    profile: Profile,
    *,
    toolchain: Toolchain | None = None,
    progress: Callable[[str], None] | None = None,
) -> Programs:
    """Returns the static programs for a board: the installed ones, some built before, or new ones.

    Args:
        profile: The board.
        toolchain: The compiler to use; the installed programs are then not considered. By default the first that
            `find_toolchain` finds.
        progress: Called with one line of text when something that takes long begins. By default it is logged as a
            warning, which is shown where nobody set up logging: a build can take minutes.

    Raises:
        ToolError: A compiler, CMake or the sources are missing (the message says how to get them), or the build failed.
    """
    architecture = profile.system.architecture
    if toolchain is None:
        installed = find_installed("bin")
        if installed and _are_static(installed, architecture):
            return Programs(installed, "installed", None)
        toolchain = find_toolchain(profile)
    source = find_installed("_source")
    if source is None:
        raise ToolError(
            "the native sources are missing from this installation of edgekit: reinstall it from a wheel or sdist"
        )
    defines = _defines(toolchain, source)
    folder = cache_dir() / "programs" / _digest(source, toolchain, defines)
    with _lock(folder):
        if not all((folder / name).is_file() for name in PROGRAMS):
            tell = progress or logger.warning
            names = " and ".join(PROGRAMS)
            tell(f"building {names} for {profile.triple} with {toolchain.program.name}, once")
            _build(source, toolchain, defines, folder, architecture)
    return Programs(folder, toolchain.name, toolchain.version)


def _are_static(folder: Path, architecture: str) -> bool:
    return all(
        (path := folder / name).is_file() and is_static_elf(path, architecture) for name in PROGRAMS
    )


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Makes `folder` and holds it: of several processes that would build into it one does, the others find it done."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _defines(toolchain: Toolchain, source: Path) -> dict[str, str]:
    """Returns CMake's cache entries, without those that depend on the build folder."""
    defines = {
        "CMAKE_BUILD_TYPE": "MinSizeRel",
        "CMAKE_CXX_FLAGS": f"-ffile-prefix-map={source}=edgekit",
        "CMAKE_EXE_LINKER_FLAGS": "-s",
        "EDGEKIT_SCHEMA_INCLUDE": str(source / "include"),
        "EDGEKIT_SMALL": "ON",
        "EDGEKIT_STATIC_RUNNER": "ON",
    } | toolchain.defines
    if toolchain.file:
        defines["CMAKE_TOOLCHAIN_FILE"] = str(toolchain.file)
    if "EDGEKIT_ZIG" in defines:
        defines["EDGEKIT_ZIG_DIR"] = str(cache_dir() / "zig")
    return defines


def _digest(source: Path, toolchain: Toolchain, defines: dict[str, str]) -> str:
    """Returns SHA-256 over all that the programs are made of, in hexadecimal."""
    digest = hashlib.sha256()
    files = sorted(path for path in source.rglob("*") if path.is_file())
    if toolchain.file:
        files += [toolchain.file, *sorted((toolchain.file.parent / "shared").glob("*.cmake"))]
    for path in files:
        name = path.relative_to(source) if path.is_relative_to(source) else path.name
        digest.update(f"{name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    for part in (
        toolchain.name,
        toolchain.version,
        *sorted(f"{k}={v}" for k, v in defines.items()),
    ):
        digest.update(f"{part}\0".encode())
    return digest.hexdigest()


def _build(
    source: Path, toolchain: Toolchain, defines: dict[str, str], folder: Path, architecture: str
) -> None:
    """Builds outside the cache, so that a killed build leaves nothing in it, and moves the programs into `folder`."""
    cmake = find_program("cmake")
    ninja, make = find_program("ninja"), find_program("make")
    if cmake is None or not (ninja or make):
        missing = "cmake" if cmake is None else "ninja"
        raise ToolError(f"building a board's programs needs {missing}: pip install {missing}")
    generator = "Ninja" if ninja else "Unix Makefiles"
    entries = defines | {"CMAKE_MAKE_PROGRAM": str(ninja or make)}
    with tempfile.TemporaryDirectory(prefix="edgekit-build-") as build:
        configure = [str(cmake), "-S", str(source), "-B", build, "-G", generator]
        _run(configure + [f"-D{key}={value}" for key, value in entries.items()], toolchain)
        jobs = str(os.cpu_count() or 1)
        _run([str(cmake), "--build", build, "--parallel", jobs, "--target", *PROGRAMS], toolchain)
        built = [_find_built(Path(build), name, toolchain, architecture) for name in PROGRAMS]
        # The cache may be on another file system, and only a move within one is a single step.
        with tempfile.TemporaryDirectory(prefix="copy-", dir=folder) as staging:
            for path in built:
                os.replace(shutil.copy2(path, staging), folder / path.name)


def _find_built(build: Path, name: str, toolchain: Toolchain, architecture: str) -> Path:
    """Returns a program that a build has made."""
    built = [item for item in build.rglob(name) if item.is_file()]
    if not built:
        raise ToolError(
            f"{toolchain.program} reported no error and made no {name}: is it a working compiler?"
        )
    if not is_static_elf(built[0], architecture):
        raise ToolError(f"{toolchain.program} made no static {name} for {architecture}")
    return built[0]


def _run(command: list[str], toolchain: Toolchain) -> None:
    # A user's compiler flags would change the programs behind the digest's back.
    ignored = {"CC", "CXX", "CPPFLAGS", "CXXFLAGS", "LDFLAGS", "CMAKE_TOOLCHAIN_FILE"}
    environment = {key: value for key, value in os.environ.items() if key not in ignored}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        words = " ".join(command)
        raise ToolError(
            f"building a board's programs with {toolchain.program} failed:\n{words}\n{tail}"
        )
