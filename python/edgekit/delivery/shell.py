"""Where commands run: on a device that ssh reaches, or in this machine's own shell."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from edgekit.delivery.ssh import Completed, choose_process_group
from edgekit.targets.errors import ToolError


class Shell(Protocol):
    """What `Ssh` and `LocalShell` have in common."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def run(
        self,
        command: str,
        *,
        stdin: bytes | Path | BinaryIO | None = None,
        timeout_s: float = 60.0,
        check: bool = True,
    ) -> Completed:
        """Runs a command line and waits for it."""


class LocalShell:
    """This machine's `sh`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def run(
        self,
        command: str,
        *,
        stdin: bytes | Path | BinaryIO | None = None,
        timeout_s: float = 60.0,
        check: bool = True,
    ) -> Completed:
        """Runs a command line and waits for it.

        Args:
            command: For `sh -c`; words from elsewhere belong through `shlex.quote`.
            stdin: What the command reads; nothing by default.
            timeout_s: Seconds until it is given up.
            check: Whether an exit status other than 0 is an error.

        Raises:
            ToolError: There is no `sh`, the time is over, or, with `check`, the command failed.
            OSError: The file `stdin` cannot be read.
        """
        if isinstance(stdin, Path):
            stdin = stdin.read_bytes()
        content = stdin if isinstance(stdin, bytes) or stdin is None else stdin.read()
        try:
            done = subprocess.run(
                ["sh", "-c", command],
                input=content or b"",
                capture_output=True,
                check=False,
                timeout=timeout_s,
                process_group=choose_process_group(),
            )
        except FileNotFoundError as error:
            raise ToolError("this machine has no `sh`: run this on Linux") from error
        except subprocess.TimeoutExpired as error:
            raise ToolError(f"no end after {timeout_s:g} s: {command}") from error
        result = Completed(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))
        if check and result.status != 0:
            message = result.stderr.strip() or result.text.strip() or "no message"
            raise ToolError(f"this machine: {message} (status {result.status})")
        return result
