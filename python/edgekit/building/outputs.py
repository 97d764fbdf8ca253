"""Compiles what a board needs and puts it into a folder."""

import shutil
from pathlib import Path

from edgekit.building.library import build_library
from edgekit.building.programs import PROGRAMS, PlanParts, build_programs
from edgekit.building.wheel import build_wheel
from edgekit.targets.errors import EdgekitError
from edgekit.targets.profile import load_profile


def build_outputs(
    target: str | Path,
    output: Path,
    *,
    library: bool = False,
    wheel: bool = False,
    plan: Path | None = None,
    source: Path = Path(),
    headers: Path | None = None,
) -> dict[str, Path]:
    """Compiles for a board and returns the files by their path in `output`.

    Args:
        target: A board's profile or the path of one.
        output: A folder that is new or empty.
        library: libedgekit with its header and CMake package.
        wheel: edgekit's wheel. Where neither is asked for, or a plan is given, the board's programs are built.
        plan: The runner has the kernels and operators of this plan alone.
        source: edgekit's source tree, which a wheel is built from.
        headers: As of `build_wheel`.

    Raises:
        EdgekitError: `output` holds something.
        PlanError: The plan is damaged.
        TargetError: There is no such board, or no wheel for it.
        ToolError: Something is missing (the message says how to get it), or a build failed.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise EdgekitError(f"{output}: not overwritten: give a folder that is new or empty")
    profile = load_profile(target)
    files: dict[str, Path] = {}
    if plan is not None or not (library or wheel):
        parts = None if plan is None else PlanParts.of_plan(plan)
        programs = build_programs(profile, only=parts)
        files |= {name: programs.folder / name for name in PROGRAMS}
    if library:
        files |= build_library(profile).files
    copied: dict[str, Path] = {}
    for name, path in files.items():
        place = output / name
        place.parent.mkdir(parents=True, exist_ok=True)
        copied[name] = Path(shutil.copy2(path, place))
    if wheel:
        made = build_wheel(profile, source, output, headers=headers)
        copied[made.name] = made
    return copied
