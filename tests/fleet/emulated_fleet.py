"""Devices of a fleet: each an OpenSSH server on its own port, with its own file system where root runs the tests.

As root, what comes over ssh runs in a chroot with nothing but a static busybox; else beside the others, in a folder.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from device_root import Device, find_program
from local_sshd import LocalSshd, run_sshd

IS_ROOT = os.geteuid() == 0
_ROOT = "var/lib/edgekit"


@dataclass(frozen=True)
class EmulatedDevice:
    """A device.

    Attributes:
        name: In the inventory.
        home: Its file system.
        server: Its ssh server.
    """

    name: str
    home: Path
    server: LocalSshd

    @property
    def root(self) -> Path:
        """Its root folder, seen from here."""
        return self.home / _ROOT

    @property
    def has_own_disk(self) -> bool:
        return os.path.ismount(self.home / "var")

    @property
    def address(self) -> str:
        return self.server.url(f"/{_ROOT}" if IS_ROOT else self.root)

    @property
    def board(self) -> Device:
        """edgekit-board on its root folder, run here."""
        return Device(self.root, find_program())

    def files(self, slot: str) -> dict[str, bytes]:
        """Returns what lies in a slot."""
        return read_tree(self.root / "slots" / slot)

    def cut_links(self, after: int | None) -> None:
        """Lets the link break after so many bytes of each file that comes; None: no more."""
        mark = self.home / "cut"
        if after is None:
            mark.unlink()
        else:
            mark.write_text(f"{after}\n")

    def leave_room(self, spare: int) -> None:
        """Leaves room for so many bytes: on its disk, or, where it has none of its own, in each file that it writes."""
        if self.has_own_disk:
            free = shutil.disk_usage(self.root).free
            (self.root.parent / "ballast").write_bytes(bytes(max(free - spare, 0)))
        else:
            (self.home / "quota").write_text(f"{spare // 512}\n")


def read_tree(folder: Path) -> dict[str, bytes]:
    """Returns the content of each file under a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@contextmanager
def run_fleet(
    folder: Path, count: int, small_disks: dict[str, int] | None = None
) -> Iterator[list[EmulatedDevice]]:
    """Runs devices d00, d01, ... until the context ends; EDGEKIT_SSH_OPTIONS lets this process reach them.

    Args:
        folder: An empty folder.
        count: How many.
        small_disks: Bytes of the disks of some, as tmpfs, where this process may mount.
    """
    before = os.environ.get("EDGEKIT_SSH_OPTIONS")
    with ExitStack() as stack:
        devices = []
        for number in range(count):
            name = f"d{number:02}"
            size = (small_disks or {}).get(name)
            devices.append(_run_device(stack, folder / name, name, size))
        key = (devices[0].server.folder / "user.pub").read_text()
        known = ""
        for device in devices:
            (device.server.folder / "authorized").write_text(key)
            known += (device.server.folder / "known_hosts").read_text()
        (folder / "known_hosts").write_text(known)
        os.environ["EDGEKIT_SSH_OPTIONS"] = devices[0].server.options.replace(
            f"{devices[0].server.folder}/known_hosts", f"{folder}/known_hosts"
        )
        try:
            yield devices
        finally:
            if before is None:
                del os.environ["EDGEKIT_SSH_OPTIONS"]
            else:
                os.environ["EDGEKIT_SSH_OPTIONS"] = before


def _run_device(stack: ExitStack, folder: Path, name: str, disk: int | None) -> EmulatedDevice:
    home, keys = folder / "home", folder / "sshd"
    (home / _ROOT).mkdir(parents=True)
    keys.mkdir()
    if disk is not None and IS_ROOT:
        where = home / "var"
        mount = ["mount", "-t", "tmpfs", "-o", f"size={disk}", "tmpfs", where]
        if subprocess.run(mount, check=False, capture_output=True).returncode == 0:
            stack.callback(subprocess.run, ["umount", "-l", where], check=False)
            (home / _ROOT).mkdir(parents=True)
    shell = _make_file_system(home) if IS_ROOT else "sh"
    # The first command of a session that sends a file ends with the link, where `cut` says so.
    script = folder / "session.sh"
    script.write_text(
        f"""#!/bin/sh
[ ! -f {home}/quota ] || ulimit -f "$(cat {home}/quota)"
case "$SSH_ORIGINAL_COMMAND" in
    *put*)
        if [ -f {home}/cut ]; then
            head -c "$(cat {home}/cut)" | {shell} -c "$SSH_ORIGINAL_COMMAND" >/dev/null 2>&1
            kill -9 $PPID
        fi
        ;;
esac
exec {shell} -c "$SSH_ORIGINAL_COMMAND"
"""
    )
    server = stack.enter_context(run_sshd(keys, f"ForceCommand sh {script}"))
    return EmulatedDevice(name, home, server)


def _make_file_system(home: Path) -> str:
    """Puts a static busybox into a folder; returns the words before `-c COMMAND` that run a command in there."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("no busybox (Debian: busybox-static)")
    for name in ("bin", "tmp", "dev", "proc"):
        (home / name).mkdir()
    shutil.copy(busybox, home / "bin/busybox")
    subprocess.run(["chroot", home, "/bin/busybox", "--install", "-s", "/bin"], check=True)
    (home / "dev/null").touch()
    return f"/usr/sbin/chroot {home} /bin/sh"
