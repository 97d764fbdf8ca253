"""Debian packages that bring a bundle to a device."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgekit.bundles.bundle import read_bundle
from edgekit.bundles.manifest import SIGNATURE
from edgekit.bundles.minisign import read_public_key
from edgekit.delivery.flash_script import run_script
from edgekit.delivery.service_files import STEPS, UNIT, write_steps, write_unit
from edgekit.targets.errors import EdgekitError, SignatureError

# By the first part of the triple.
_ARCHITECTURES = {
    "aarch64": "arm64",
    "arm": "armhf",
    "armv7l": "armhf",
    "riscv64": "riscv64",
    "x86_64": "amd64",
}


def write_debian_package(
    bundle: str | Path,
    output: str | Path,
    *,
    key: Path,
    package: str | None = None,
    version: str | None = None,
    maintainer: str | None = None,
    listen: str | None = None,
) -> Path:
    """Writes a package; the same inputs give the same bytes.

    When it is installed, edgekit-board takes the bundle into the slot that does not run, checks it on the device, and
    puts it on trial; where it refuses, the installation fails and what ran goes on.

    Args:
        bundle: The bundle's folder, signed by `key`.
        output: The package's file.
        key: File of the public key that may sign for a device that has no root folder yet.
        package: Its name, by default edgekit-model.
        version: By default the bundle's release.
        maintainer: "Name <address>".
        listen: Where its service serves: ``unix:/path``, ``unix:@name`` or ``tcp:host:port``; by default at a socket of
            the device.

    Raises:
        SignatureError: The bundle is not signed by `key`.
        PlanError: The bundle is damaged.
        ToolError: A program is missing; the message says how to get it.
        EdgekitError: A name or version is none that Debian takes, or there is no Debian for the board.
    """
    folder = Path(bundle)
    if not (folder / SIGNATURE).is_file():
        raise SignatureError(f"{folder}: not signed, and devices take only what is signed")
    checked = read_bundle(folder, key=read_public_key(key))
    architecture = _ARCHITECTURES.get(checked.target.architecture)
    if architecture is None:
        raise EdgekitError(f"there is no Debian for {checked.target.triple}")
    words: list[str | Path] = ["--architecture", architecture, "--key", key]
    words += ["--version", version or str(checked.release)]
    words += [] if package is None else ["--package", package]
    words += [] if maintainer is None else ["--maintainer", maintainer]
    with tempfile.TemporaryDirectory(prefix="edgekit-debian-") as work:
        files = Path(work)
        write_unit(checked.target, files / "usr/lib/systemd/system" / UNIT, listen)
        write_steps(files / "usr/lib/edgekit" / STEPS)
        run_script("debian.sh", [*words, "--files", files, folder, output])
    return Path(output)
