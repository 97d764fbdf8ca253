"""Compilers that build for a board: which there are, and how a user gets one that is missing."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgekit.targets.errors import ToolError
from edgekit.targets.profile import TOOLCHAINS_DIR, Profile


@dataclass(frozen=True)
class Toolchain:
    """A compiler that is there, and how CMake is told to use it.

    Attributes:
        name: Stem of the file in targets/toolchains, or "native": this machine's own compiler.
        program: The compiler.
        version: What the compiler says of itself, one line.
        defines: CMake cache entries.
    """

    name: str
    program: Path
    version: str
    defines: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path | None:
        """The CMake toolchain file, None for "native"."""
        return None if self.name == "native" else TOOLCHAINS_DIR / f"{self.name}.cmake"


@dataclass(frozen=True)
class Candidate:
    """What a toolchain needs to be there.

    Attributes:
        programs: Names of the compiler, the preferred one first.
        package: Python package that holds the compiler under its own name, if any.
        define: CMake cache entry that takes the compiler's path.
        version_flag: Argument that makes the compiler tell its version.
        how_to_get: For the message when it is missing.
    """

    programs: tuple[str, ...]
    define: str
    how_to_get: str
    package: str | None = None
    version_flag: str = "--version"


def _gnu(triple: str) -> Candidate:
    return Candidate(
        programs=(f"{triple}-g++",),
        define="CMAKE_CXX_COMPILER",
        how_to_get=f"the distribution's cross compiler (Debian: apt install g++-{triple})",
    )


_ZIG = Candidate(
    programs=("zig",),
    package="ziglang",
    define="EDGEKIT_ZIG",
    version_flag="version",
    how_to_get="zig, which needs no root (pip install 'edgekit[zig]')",
)

CANDIDATES = {
    "native": Candidate(
        programs=("c++", "g++", "clang++"),
        define="CMAKE_CXX_COMPILER",
        how_to_get="your distribution's C++ compiler (Debian, Ubuntu: apt install g++)",
    ),
    "aarch64-linux-gnu": _gnu("aarch64-linux-gnu"),
    "arm-linux-gnueabihf": _gnu("arm-linux-gnueabihf"),
    "riscv64-linux-gnu": _gnu("riscv64-linux-gnu"),
    "zig-aarch64-linux-gnu": _ZIG,
    "zig-aarch64-linux-musl": _ZIG,
    "zig-arm-linux-gnueabihf": _ZIG,
    "zig-arm-linux-musleabihf": _ZIG,
    "zig-riscv64-linux-gnu": _ZIG,
    "zig-riscv64-linux-musl": _ZIG,
}


def find_program(*names: str) -> Path | None:
    """Finds the first of `names` on PATH or beside this Python's own scripts."""
    folders = os.pathsep.join([os.environ.get("PATH", os.defpath), sysconfig.get_path("scripts")])
    for name in names:
        if found := shutil.which(name, path=folders):
            return Path(found)
    return None


def find_toolchain(profile: Profile) -> Toolchain:
    """Finds a compiler for the board.

    This machine's own compiler comes first if the architecture is the same, then the profile's
    toolchains in their order.

    Raises:
        ToolError: There is none; the message says how to get each that would do.
    """
    names = _names(profile)
    for name in names:
        if toolchain := _probe(name):
            return toolchain
    ways = [CANDIDATES[name].how_to_get for name in names]
    if not ways:
        raise ToolError(
            f"nothing on this {platform.machine()} machine compiles for {profile.triple}: the profile "
            f"'{profile.name}' names no toolchain. Deploy on a {profile.system.architecture} machine."
        )
    raise ToolError(f"no compiler for {profile.triple} was found: install {', or '.join(ways)}.")


def find_library_toolchain(profile: Profile) -> Toolchain:
    """Finds a compiler for libraries that the board's own programs load: for its C library, not for static musl.

    Raises:
        ToolError: There is none; the message says how to get each that would do.
    """
    zig = {name: f"zig-{profile.triple}" for name in profile.system.toolchains if "musl" in name}
    toolchains = tuple(zig.get(name, name) for name in profile.system.toolchains)
    system = replace(profile.system, toolchains=toolchains)
    return find_toolchain(replace(profile, system=system))


def list_toolchains(profile: Profile) -> list[Toolchain]:
    """Returns every compiler for the board that is there, the preferred one first."""
    return [toolchain for name in _names(profile) if (toolchain := _probe(name))]


def _names(profile: Profile) -> list[str]:
    own = ["native"] if profile.system.architecture == platform.machine() else []
    return own + list(profile.system.toolchains)


def _probe(name: str) -> Toolchain | None:
    """Returns the toolchain if its compiler is there and answers."""
    candidate = CANDIDATES[name]
    program = find_program(*candidate.programs)
    if program is None and candidate.package:
        program = _find_in_package(candidate.package, candidate.programs[0])
    if program is None:
        return None
    answer = subprocess.run(
        [program, candidate.version_flag], capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        return None
    version = answer.stdout.splitlines()[0] if answer.stdout else "unknown"
    return Toolchain(name, program, version, {candidate.define: str(program)})


def _find_in_package(package: str, program: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    for folder in spec.submodule_search_locations or () if spec else ():
        if (path := Path(folder) / program).is_file():
            return path
    return None
