"""A real systemd in name spaces of its own, with no unit but those of a test, and nothing of this machine to write."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).with_name("systemd_root.sh")
_STARTS_WITHIN_S = 20
_LIVES_S = 300


@dataclass(frozen=True)
class SystemdWorld:
    """A systemd that runs.

    Attributes:
        pid: Of it, as this machine counts.
    """

    pid: int

    @property
    def root(self) -> Path:
        """Its file system, as seen from here."""
        return Path(f"/proc/{self.pid}/root")

    def run(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command there."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "-p", "-n", "-u", "-i", "-r", "-w"]
        done = subprocess.run(
            [*enter, "env", "-i", "PATH=/usr/bin:/usr/sbin", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert not check or done.returncode == 0, (words, done.stdout, done.stderr)
        return done

    def show(self, unit: str, key: str) -> str:
        """Returns what systemd says of a unit."""
        return self.run("systemctl", "show", unit, "--property", key, "--value").stdout.strip()


@contextmanager
def systemd_world(folder: Path, device: Path) -> Iterator[SystemdWorld]:
    """Runs a systemd until the context ends; skips the test where that can't be.

    Args:
        folder: An empty folder, its root.
        device: A folder that is there as /board.
    """
    program = Path("/lib/systemd/systemd")
    if os.geteuid() != 0 or not program.exists() or shutil.which("nsenter") is None:
        pytest.skip("no systemd (Debian: systemd), or not root")
    above = Path("/sys/fs/cgroup")
    if not (above / "cgroup.controllers").exists():
        above /= "systemd"
    group = above / f"edgekit-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group for systemd: {error}")
    log = (folder.parent / "systemd.log").open("w")
    line = 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"'
    spaces = ["--mount", "--pid", "--fork", "--uts", "--ipc", "--net", "--cgroup", "--kill-child"]
    words = ["timeout", str(_LIVES_S), "unshare", *spaces, "sh", _SCRIPT, folder, device]
    started = subprocess.Popen(
        ["sh", "-c", line, "sh", group, *words], stdout=log, stderr=log, start_new_session=True
    )
    try:
        yield _wait(started, Path(log.name))
    finally:
        # The first process of a world is ended by nothing less, and all others with it.
        for pid in _children(started.pid):
            os.kill(pid, signal.SIGKILL)
        started.wait()
        log.close()
        _remove(group)


def _wait(started: subprocess.Popen[bytes], log: Path) -> SystemdWorld:
    end = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < end and started.poll() is None:
        for pid in _children(started.pid):
            if _words(pid)[:1] == [b"/lib/systemd/systemd"]:
                world = SystemdWorld(pid)
                if (
                    world.run("systemctl", "is-active", "multi-user.target", check=False).stdout
                    == "active\n"
                ):
                    return world
        time.sleep(0.1)
    pytest.skip(f"systemd does not run here: {log.read_text()[-300:]}")


def _words(pid: int) -> list[bytes]:
    """Returns a process's command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except FileNotFoundError:
        return []


def _children(pid: int) -> list[int]:
    """Returns all processes below one."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return []
    found = []
    for child in map(int, text.split()):
        found += [child, *_children(child)]
    return found


def _remove(group: Path) -> None:
    for _ in range(50):
        for folder, _, _ in os.walk(group, topdown=False):
            try:
                Path(folder).rmdir()
            except OSError:
                continue
        if not group.exists():
            return
        time.sleep(0.1)
