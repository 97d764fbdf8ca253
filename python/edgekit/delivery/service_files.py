"""The service of systemd that runs a device's model, as files of an image or a package (targets/flash/service)."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgekit.bundles.manifest import BundleTarget
from edgekit.delivery.flash_script import SCRIPTS, run_script
from edgekit.delivery.ssh import DEFAULT_ROOT
from edgekit.targets.errors import TargetError
from edgekit.targets.profile import load_profile

UNIT = "edgekit.service"
STEPS = "edgekit-service"
_FOLDER = SCRIPTS / "service"


def write_unit(target: BundleTarget, file: Path, listen: str | None) -> None:
    """Writes the unit for a board.

    Args:
        target: The board; it serves with a thread for each core, or with one where its profile tells none.
        file: The unit's file.
        listen: Where it serves: ``unix:/path``, ``unix:@name``, ``tcp:host:port``; by default a socket of the device.

    Raises:
        EdgekitError: It is no such address.
    """
    words = ["--print", "--threads", str(_count_cores(target))]
    words += [] if listen is None else ["--listen", listen]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(run_script("service/service.sh", [*words, DEFAULT_ROOT]), encoding="utf-8")


def write_steps(file: Path) -> None:
    """Writes the program that the unit starts."""
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_FOLDER / f"{STEPS}.sh", file)
    file.chmod(0o755)


def write_service_tree(target: BundleTarget, folder: Path, listen: str | None) -> Path:
    """Writes the service, enabled, as it lies below a device's /; returns `folder`.

    Raises:
        EdgekitError: `listen` is no address.
    """
    units = folder / "etc/systemd/system"
    write_unit(target, units / UNIT, listen)
    (units / "multi-user.target.wants").mkdir()
    (units / "multi-user.target.wants" / UNIT).symlink_to(f"/etc/systemd/system/{UNIT}")
    write_steps(folder / f"{DEFAULT_ROOT[1:]}/bin/{STEPS}")
    # Whoever flashes a bundle later restarts the service by this.
    (folder / f"{DEFAULT_ROOT[1:]}/service").write_text(f"systemctl restart {UNIT}\n")
    return folder


def _count_cores(target: BundleTarget) -> int:
    try:
        return load_profile(target.name).cpu.cores or 1
    except TargetError:
        # A profile of the user's own, which the bundle only names.
        return 1
