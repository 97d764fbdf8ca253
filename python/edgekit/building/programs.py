"""Builds a board's static programs, edgekit-run and edgekit-board."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgekit import _native
from edgekit.building.elf import is_static_elf
from edgekit.building.native_build import NativeBuild, build_native, cache_dir, find_installed
from edgekit.targets.errors import ToolError
from edgekit.targets.profile import Profile
from edgekit.targets.toolchain import Toolchain, find_toolchain

__all__ = ["PROGRAMS", "PlanParts", "Programs", "build_programs", "cache_dir", "find_installed"]

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


@dataclass(frozen=True)
class PlanParts:
    """What a plan uses of a runner.

    Attributes:
        isas: Instruction sets whose kernels may serve, sorted.
        ops: Kinds of operators, as plan.fbs names them, sorted.
    """

    isas: tuple[str, ...]
    ops: tuple[str, ...]

    @classmethod
    def of_plan(cls, path: Path) -> "PlanParts":
        """Reads them from a plan, all of whose sizes count.

        Raises:
            PlanError: The file cannot be read or is damaged.
        """
        plan = _native.Plan.open(str(path))
        parents = {info.name: info.parent for info in _native.isas()}
        isas = {plan.isa}
        while not isas >= (more := {parents[isa] for isa in isas}):
            isas |= more
        ops = {op.kind for size in plan.sizes for op in size.ops}
        return cls(tuple(sorted(isas)), tuple(sorted(ops)))


def build_programs(
    profile: Profile,
    *,
    only: PlanParts | None = None,
    toolchain: Toolchain | None = None,
    progress: Callable[[str], None] | None = None,
) -> Programs:
    """Returns the static programs for a board: the installed ones, some built before, or new ones.

    Args:
        profile: The board.
        only: What the runner has of kernels and operators; it then refuses plans that use others. By default all.
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
        if only is None and installed and _are_static(installed, architecture):
            return Programs(installed, "installed", None)
        toolchain = find_toolchain(profile)
    program = toolchain.program

    def collect(build: Path, staging: Path) -> None:
        for name in PROGRAMS:
            shutil.copy2(_find_built(build, name, program, architecture), staging)

    defines = {
        "CMAKE_EXE_LINKER_FLAGS": "-s",
        "EDGEKIT_SMALL": "ON",
        "EDGEKIT_STATIC_RUNNER": "ON",
    }
    if only is not None:
        defines |= {"EDGEKIT_ISAS": ";".join(only.isas), "EDGEKIT_OPS": ";".join(only.ops)}
    build = NativeBuild(" and ".join(PROGRAMS), "programs", PROGRAMS, defines, PROGRAMS, collect)
    folder = build_native(build, toolchain, profile.triple, progress)
    return Programs(folder, toolchain.name, toolchain.version)


def _are_static(folder: Path, architecture: str) -> bool:
    return all(
        (path := folder / name).is_file() and is_static_elf(path, architecture) for name in PROGRAMS
    )


def _find_built(build: Path, name: str, program: Path, architecture: str) -> Path:
    """Returns a program that a build has made."""
    built = [item for item in build.rglob(name) if item.is_file()]
    if not built:
        raise ToolError(
            f"{program} reported no error and made no {name}: is it a working compiler?"
        )
    if not is_static_elf(built[0], architecture):
        raise ToolError(f"{program} made no static {name} for {architecture}")
    return built[0]
