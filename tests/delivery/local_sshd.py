"""A real OpenSSH server of the test's own, on a port of this machine, with keys made for it."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_STARTS_WITHIN_S = 15


@dataclass(frozen=True)
class LocalSshd:
    """A server that runs.

    Attributes:
        folder: Its keys, settings and log (`log`).
        port: Where it listens on 127.0.0.1.
        user: Who may log in: whoever runs the test.
        pid: Of the server.
    """

    folder: Path
    port: int
    user: str
    pid: int

    @property
    def options(self) -> str:
        """For EDGEKIT_SSH_OPTIONS."""
        return f"-F none -i {self.folder}/user -o IdentitiesOnly=yes -o UserKnownHostsFile={self.folder}/known_hosts"

    def url(self, root: str | Path = "") -> str:
        """Returns the address of a root folder on it."""
        return f"ssh://{self.user}@127.0.0.1:{self.port}{root}"


@contextmanager
def run_sshd(folder: Path, *settings: str) -> Iterator[LocalSshd]:
    """Runs a server until the context ends.

    Args:
        folder: An empty folder for keys and settings, not writable by others.
        settings: Further lines of sshd_config.
    """
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("no sshd (Debian: openssh-server)")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name]
        subprocess.run(command, check=True)
    port = _find_port()
    host_key = (folder / "host.pub").read_text().split()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key[0]} {host_key[1]}\n")
    shutil.copyfile(folder / "user.pub", folder / "authorized")
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder}/host",
        f"AuthorizedKeysFile {folder}/authorized",
        f"PidFile {folder}/pid",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin prohibit-password",
        "UsePAM no",
        "StrictModes no",
        "MaxStartups 100",
        # What the user's own shell does at its start is nothing to a test.
        f"SetEnv HOME={folder}",
        *settings,
    ]
    (folder / "sshd_config").write_text("\n".join(lines) + "\n")
    command = [program, "-D", "-f", folder / "sshd_config", "-E", folder / "log"]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        _wait(port, server, folder / "log")
        yield LocalSshd(folder, port, user, server.pid)
    finally:
        server.terminate()
        server.wait()


def _find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(f"sshd did not start: {log.read_text()}")
