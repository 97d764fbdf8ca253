"""Compiles the native sources that the package carries for a board, and keeps what was built.

What was built is found again by the digest of everything that it is made of: sources, toolchain files, compiler version
and CMake's arguments. So a changed source is never served from the cache, and an unchanged one is never built twice.
"""

import fcntl
import hashlib
import logging
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import edgekit
from edgekit.targets.errors import ToolError
from edgekit.targets.toolchain import Toolchain, find_program

logger = logging.getLogger(__name__)

# A user's compiler flags would change what is built behind the digest's back.
_IGNORED = {"CC", "CXX", "CPPFLAGS", "CXXFLAGS", "LDFLAGS", "CMAKE_TOOLCHAIN_FILE"}


@dataclass(frozen=True)
class NativeBuild:
    """One way to compile the sources.

    Attributes:
        what: What is built, for messages: "edgekit-run and edgekit-board".
        kind: Folder of the cache.
        targets: CMake's targets.
        defines: CMake cache entries besides the toolchain's.
        outputs: What is in the cache once it is built, by path.
        collect: Copies what is to be kept from the build folder, its first argument, into its second; raises ToolError
            where it is not what it should be.
    """

    what: str
    kind: str
    targets: Sequence[str]
    defines: Mapping[str, str]
    outputs: Sequence[str]
    collect: Callable[[Path, Path], None]


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


def build_native(
    build: NativeBuild,
    toolchain: Toolchain,
    triple: str,
    progress: Callable[[str], None] | None,
) -> Path:
    """Returns the cache's folder with what `build` makes, which is built if it is not there.

    Args:
        build: What to build.
        toolchain: The compiler.
        triple: The board's, for messages.
        progress: Called with one line of text before something is built; by default it is logged as a warning.

    Raises:
        ToolError: CMake, ninja or the sources are missing (the message says how to get them), or the build failed.
    """
    source = find_installed("_source")
    if source is None:
        raise ToolError(
            "the native sources are missing from this installation of edgekit: reinstall it from a wheel or sdist"
        )
    defines = _defines(build, toolchain, source)
    folder = cache_dir() / build.kind / _digest(source, toolchain, defines)
    with _lock(folder):
        if not all((folder / name).exists() for name in build.outputs):
            tell = progress or logger.warning
            tell(f"building {build.what} for {triple} with {toolchain.program.name}, once")
            _build(build, source, toolchain, defines, folder)
    return folder


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


def _defines(build: NativeBuild, toolchain: Toolchain, source: Path) -> dict[str, str]:
    """Returns CMake's cache entries, without those that depend on the build folder."""
    defines = {
        "CMAKE_BUILD_TYPE": "MinSizeRel",
        "CMAKE_CXX_FLAGS": f"-ffile-prefix-map={source}=edgekit",
        "EDGEKIT_SCHEMA_INCLUDE": str(source / "include"),
        **build.defines,
        **toolchain.defines,
    }
    if toolchain.file:
        defines["CMAKE_TOOLCHAIN_FILE"] = str(toolchain.file)
    if "EDGEKIT_ZIG" in defines:
        defines["EDGEKIT_ZIG_DIR"] = str(cache_dir() / "zig")
    return defines


def _digest(source: Path, toolchain: Toolchain, defines: dict[str, str]) -> str:
    """Returns SHA-256 over all that goes into a build, in hexadecimal."""
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
    build: NativeBuild, source: Path, toolchain: Toolchain, defines: dict[str, str], folder: Path
) -> None:
    """Builds outside the cache, so that a killed build leaves nothing in it, and moves the outputs into `folder`."""
    cmake = find_program("cmake")
    ninja, make = find_program("ninja"), find_program("make")
    if cmake is None or not (ninja or make):
        missing = "cmake" if cmake is None else "ninja"
        raise ToolError(f"building {build.what} needs {missing}: pip install {missing}")
    generator = "Ninja" if ninja else "Unix Makefiles"
    entries = defines | {"CMAKE_MAKE_PROGRAM": str(ninja or make)}
    with tempfile.TemporaryDirectory(prefix="edgekit-build-") as work:
        configure = [str(cmake), "-S", str(source), "-B", work, "-G", generator]
        run_build(build.what, configure + [f"-D{key}={value}" for key, value in entries.items()])
        jobs = str(os.cpu_count() or 1)
        run_build(
            build.what,
            [str(cmake), "--build", work, "--parallel", jobs, "--target", *build.targets],
        )
        # The cache may be on another file system, and only a move within one is a single step.
        with tempfile.TemporaryDirectory(prefix="copy-", dir=folder) as staging:
            build.collect(Path(work), Path(staging))
            for name in build.outputs:
                os.replace(Path(staging) / name, folder / name)


def run_build(what: str, command: list[str], **environment: str) -> None:
    """Runs one command of a build, without the user's compiler flags.

    Raises:
        ToolError: It failed; the message has the last lines that it printed.
    """
    kept = {key: value for key, value in os.environ.items() if key not in _IGNORED}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=kept | environment
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        raise ToolError(f"building {what} failed:\n{' '.join(command)}\n{tail}")
