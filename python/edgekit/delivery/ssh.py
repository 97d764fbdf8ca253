"""Commands on a device, over the system's own OpenSSH: its keys, its configuration, its known hosts.

The environment's EDGEKIT_SSH_OPTIONS holds further words for `ssh`, as a shell would split them:
`-i key -o UserKnownHostsFile=hosts`.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from edgekit.targets.errors import EdgekitError, ToolError
from edgekit.targets.toolchain import find_program

DEFAULT_ROOT = "/var/lib/edgekit"
SCHEME = "ssh://"

_FORM = "ssh://[user@]host[:port][/absolute/root]"
# A leading hyphen would be an option of ssh; whitespace and quotes have no business in either.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\\$+-]{0,127}")
_HOST = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?\]"
)
_CONNECT_SECONDS = 10
# A question each so many seconds, and how many may stay unanswered until the link is taken for broken.
_ALIVE_SECONDS, _ALIVE_COUNT = 5, 4
# ssh's own failures; a command that exits with it cannot be told from these but by what ssh prints.
_SSH_FAILED = 255
# What ssh prints, and what to say: the first that is found.
_WORDS = {
    "REMOTE HOST IDENTIFICATION HAS CHANGED": "its host key is not the one it had; if you know why, "
    "`ssh-keygen -R {host}` forgets the old one",
    "Host key verification failed": "its host key is not known: connect once by `ssh {login}` and accept it",
    "Permission denied": "it lets nobody in with these keys: `ssh-copy-id {login}` puts yours there",
    "Could not resolve hostname": "no such host",
    "Connection refused": "nothing listens there: is ssh enabled on it?",
    "No route to host": "no route to it: is it on, and on this network?",
    "timed out": "no answer: is it on, and on this network?",
    "Connection closed": "it closed the connection",
    "Connection reset": "the link broke",
    "Broken pipe": "the link broke",
    "not responding": "the link broke",
}


def choose_process_group() -> int:
    """Returns what `subprocess` takes as `process_group`: for what a thread starts, a group of its own.

    Ctrl-C at a terminal goes to every process of the foreground group. Work in threads is ended by who started them,
    who may want to finish what is begun.
    """
    return -1 if threading.current_thread() is threading.main_thread() else 0


@dataclass(frozen=True)
class SshAddress:
    """Where a device is, and where on it edgekit's root folder is.

    Attributes:
        host: Name or address; an IPv6 address without brackets.
        user: Who to log in as, None for what ssh's configuration says.
        port: None for what ssh's configuration says.
        root: Absolute path of the root folder on the device.
    """

    host: str
    user: str | None = None
    port: int | None = None
    root: str = DEFAULT_ROOT

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `ssh://[user@]host[:port][/absolute/root]`.

        Raises:
            EdgekitError: It has another form.
        """
        if not text.startswith(SCHEME):
            raise EdgekitError(f"{text}: no address of a device, which looks like {_FORM}")
        authority, slash, path = text[len(SCHEME) :].partition("/")
        user, at, place = authority.rpartition("@")
        bracket = place.rfind("]") + 1
        rest, colon, port = place[bracket:].partition(":")
        host = place[:bracket] + rest
        if (at and not _USER.fullmatch(user)) or not _HOST.fullmatch(host):
            raise EdgekitError(f"{text}: no address of a device, which looks like {_FORM}")
        if colon and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
            raise EdgekitError(f"{text}: '{port}' is no port: 1 to 65535")
        root = _check_root(text, slash + path) if path.strip("/") else DEFAULT_ROOT
        return cls(host.strip("[]"), user or None, int(port) if colon else None, root)

    @property
    def login(self) -> str:
        """What `ssh` takes: `user@host`."""
        return f"{self.user}@{self.host}" if self.user else self.host

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        user = f"{self.user}@" if self.user else ""
        root = "" if self.root == DEFAULT_ROOT else self.root
        return f"{SCHEME}{user}{host}{port}{root}"


def _check_root(text: str, root: str) -> str:
    parts = root.strip("/").split("/")
    if not root.isprintable() or any(part in ("", ".", "..") for part in parts):
        raise EdgekitError(f"{text}: '{root}' is no absolute path of a folder without . and ..")
    return "/" + "/".join(parts)


@dataclass(frozen=True)
class Completed:
    """What a command on a device did.

    Attributes:
        status: Its exit status.
        stdout: What it printed.
        stderr: What it printed on the error stream.
    """

    status: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """`stdout` as UTF-8."""
        return self.stdout.decode("utf-8", "replace")


class Ssh:
    """A device that ssh reaches. As a context manager it keeps one connection for all commands."""

    def __init__(self, address: SshAddress, options: Sequence[str] = ()) -> None:
        """Names a device; nothing is connected yet.

        Args:
            address: Where it is.
            options: Further words for `ssh`, behind those of EDGEKIT_SSH_OPTIONS.
        """
        self.address = address
        self._options = [*shlex.split(os.environ.get("EDGEKIT_SSH_OPTIONS", "")), *options]
        self._control: str | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        # A socket's path may have 107 bytes, which long temporary folders leave no room for.
        folder = self._stack.enter_context(
            tempfile.TemporaryDirectory(prefix="edgekit-ssh-", dir="/tmp")
        )
        self._control = f"{folder}/c"
        self._stack.callback(self._disconnect)
        try:
            self.run("true", timeout_s=120)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def run(
        self,
        command: str,
        *,
        stdin: bytes | Path | BinaryIO | None = None,
        timeout_s: float = 60.0,
        check: bool = True,
    ) -> Completed:
        """Runs a command line in the device's shell and waits for it.

        Args:
            command: For the device's shell; words from elsewhere belong through `shlex.quote`.
            stdin: What the command reads: bytes, or a file from where it stands; nothing by default.
            timeout_s: Seconds until it is given up.
            check: Whether an exit status other than 0 is an error.

        Raises:
            ToolError: There is no ssh here, the device cannot be reached or lets nobody in, the time is over, or, with
                `check`, the command failed; the message says which.
            OSError: The file `stdin` cannot be read.
        """
        words = self.words(command)
        environment = {**os.environ, "LC_ALL": "C"}
        with ExitStack() as files:
            if isinstance(stdin, Path):
                stdin = files.enter_context(stdin.open("rb"))
            source: dict[str, Any] = {"stdin": stdin or subprocess.DEVNULL}
            if isinstance(stdin, bytes):
                source = {"input": stdin}
            try:
                done = subprocess.run(
                    words,
                    capture_output=True,
                    check=False,
                    timeout=timeout_s,
                    env=environment,
                    process_group=choose_process_group(),
                    **source,
                )
            except subprocess.TimeoutExpired as error:
                raise ToolError(
                    f"{self.address}: no end after {timeout_s:g} s: {command}"
                ) from error
        result = Completed(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))
        if result.status == _SSH_FAILED:
            raise ToolError(f"{self.address}: {self._explain(result.stderr)}")
        if check and result.status != 0:
            message = result.stderr.strip() or result.text.strip() or "no message"
            raise ToolError(f"{self.address}: {message} (status {result.status})")
        return result

    def words(self, command: str) -> list[str]:
        """Returns the command line here that runs `command` there."""
        program = find_program("ssh")
        if program is None:
            raise ToolError(
                "reaching a device needs ssh: install OpenSSH's client (Debian, Ubuntu: apt install openssh-client)"
            )
        words = [str(program), *self._options]
        if self.address.port is not None:
            words += ["-p", str(self.address.port)]
        settings = {
            "ConnectTimeout": _CONNECT_SECONDS,
            "ServerAliveInterval": _ALIVE_SECONDS,
            "ServerAliveCountMax": _ALIVE_COUNT,
            # Who sits at a terminal may type a password; nobody else is waited for.
            "BatchMode": "no" if sys.stdin and sys.stdin.isatty() else "yes",
        }
        if self._control:
            settings |= {
                "ControlMaster": "auto",
                "ControlPath": self._control,
                "ControlPersist": 30,
            }
        for key, value in settings.items():
            words += ["-o", f"{key}={value}"]
        return [*words, "-T", "--", self.address.login, command]

    @property
    def shared(self) -> list[str]:
        """Words by which another ssh uses the connection that this one keeps."""
        return ["-o", f"ControlPath={self._control}"] if self._control else []

    def _disconnect(self) -> None:
        words = ["ssh", "-o", f"ControlPath={self._control}", "-O", "exit", "--", self.address.host]
        subprocess.run(words, capture_output=True, check=False, timeout=10)
        self._control = None

    def _explain(self, stderr: str) -> str:
        address = self.address
        for sign, words in _WORDS.items():
            if sign in stderr:
                return words.format(host=address.host, login=address.login)
        lines = [line for line in stderr.splitlines() if line.strip()]
        return lines[-1].strip() if lines else "ssh failed without a word"
