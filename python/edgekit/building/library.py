"""Builds libedgekit for a board's applications: shared and static, with the C API's header and a CMake package."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgekit.building.native_build import NativeBuild, build_native, run_build
from edgekit.targets.errors import ToolError
from edgekit.targets.profile import Profile
from edgekit.targets.toolchain import Toolchain, find_library_toolchain, find_program

_INSTALLED = "installed"


@dataclass(frozen=True)
class Library:
    """libedgekit for a board.

    Attributes:
        folder: What an application's build is pointed to: `include`, `lib` and `lib/cmake/edgekit`.
        toolchain: Stem of the toolchain file, or "native".
        compiler: What the compiler says of itself.
    """

    folder: Path
    toolchain: str
    compiler: str

    @property
    def files(self) -> dict[str, Path]:
        """Every file by its path in the folder, with forward slashes."""
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path for path in paths}


def build_library(
    profile: Profile,
    *,
    toolchain: Toolchain | None = None,
    progress: Callable[[str], None] | None = None,
) -> Library:
    """Returns the library for a board, built before or now.

    The shared one needs nothing but the C library, glibc 2.28 or newer if zig built it, whatever compiler the
    application has. The static one is for applications whose compiler's C++ library is the same.

    Args:
        profile: The board.
        toolchain: The compiler to use, by default the first that `find_library_toolchain` finds.
        progress: As of `build_programs`.

    Raises:
        ToolError: A compiler, CMake or the sources are missing (the message says how to get them), or the build failed.
    """
    chosen = toolchain or find_library_toolchain(profile)

    def collect(build: Path, staging: Path) -> None:
        prefix = staging / _INSTALLED
        command = [str(find_program("cmake")), "--install", str(build)]
        run_build("libedgekit", [*command, "--component", "library", "--prefix", str(prefix)])
        if not (prefix / "lib/libedgekit.so").is_file():
            raise ToolError(f"{chosen.program} reported no error and made no libedgekit.so")

    defines = {
        "CMAKE_INSTALL_LIBDIR": "lib",
        "CMAKE_SHARED_LINKER_FLAGS": "-s",
        "EDGEKIT_BUILD_LIBRARY": "ON",
        "EDGEKIT_BUILD_RUNNER": "OFF",
    }
    build = NativeBuild("libedgekit", "library", ["all"], defines, [_INSTALLED], collect)
    folder = build_native(build, chosen, profile.triple, progress)
    return Library(folder / _INSTALLED, chosen.name, chosen.version)
