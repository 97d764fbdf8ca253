"""An aarch64 Python with other runtimes, made of Debian packages and wheels: unpacked, never installed.

It runs in the user emulator with `-L FOLDER`. apt keeps lists and packages in a folder of its own, so nothing of this
machine's package database is touched.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from counting import BUILD, MissingToolError

ROOT = BUILD / "root"
PROGRAM = ROOT / "usr" / "bin" / "python3"
_DEBS = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "zlib1g", "libatomic1")
# The versions that are counted; both print a little differently why they know no topology in emulation.
ONNX_RUNTIMES = ("1.20.1", "1.31.1")
LITERT = "2.3.0"
_WHEELS = ("numpy", "flatbuffers", "packaging", "protobuf")
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")


def make_root() -> Path:
    """Unpacks Python and what it needs, once.

    Raises:
        MissingToolError: apt-get cannot fetch packages here.
    """
    if PROGRAM.exists():
        return ROOT
    apt = BUILD / "apt"
    for folder in (
        "etc/apt.conf.d",
        "etc/preferences.d",
        "state/lists/partial",
        "archives/partial",
    ):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Dir::State": apt / "state",
        "Dir::State::status": apt / "status",
        "Dir::Cache::archives": apt / "archives",
        "Dir::Etc::parts": apt / "etc" / "apt.conf.d",
        "Dir::Etc::preferencesparts": apt / "etc" / "preferences.d",
    }
    words = ["apt-get", "-q", *(word for k, v in settings.items() for word in ("-o", f"{k}={v}"))]
    try:
        subprocess.run([*words, "update"], check=True, capture_output=True, text=True)
        subprocess.run(
            [*words, "--download-only", "-y", "install", *_DEBS],
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        message = getattr(error, "stderr", None) or str(error)
        raise MissingToolError(
            f"apt-get could not fetch an arm64 Python: {message.strip()}"
        ) from error
    ROOT.mkdir(parents=True, exist_ok=True)
    for package in sorted((apt / "archives").glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(package), str(ROOT)], check=True)
    return ROOT


def fetch_onnxruntime(version: str) -> Path:
    """Unpacks a version of ONNX Runtime and what it imports, once; returns the folder to import from."""
    return _fetch("onnxruntime", version, "onnxruntime")


def fetch_litert() -> Path:
    """Unpacks LiteRT and what it imports, once; returns the folder to import from."""
    return _fetch("ai-edge-litert", LITERT, "ai_edge_litert")


def _fetch(package: str, version: str, module: str) -> Path:
    folder = BUILD / f"{package}-{version}"
    if (folder / module).exists():
        return folder
    python = f"{next((ROOT / 'usr' / 'bin').glob('python3.*')).name.removeprefix('python3.')}"
    words = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:"]
    words += ["--target", str(folder), "--python-version", f"3.{python}"]
    words += [word for platform in _PLATFORMS for word in ("--platform", platform)]
    subprocess.run([*words, f"{package}=={version}", *_WHEELS], check=True)
    return folder
