"""The contest's side of a worker process."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import Any

from edgekit.peers.contestant import Contestant
from edgekit.targets.errors import ToolError

_LONGEST_REASON = 300


class Process:
    """A contestant in a process of its own; a context manager that ends it."""

    def __init__(self, contestant: Contestant) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgekit.peers.worker", contestant.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
        assert self._process.stdin
        assert self._process.stdout
        self._commands, self._replies = self._process.stdin, self._process.stdout

    @property
    def identifier(self) -> int:
        """The process's number."""
        return self._process.pid

    def ask(self, do: str, *, limit: float = 600.0, **arguments: Any) -> dict[str, Any]:
        """Returns the worker's answer to a command.

        Args:
            do: A method of `worker.Worker`.
            limit: Seconds after which it is given up.
            arguments: What the method takes.

        Raises:
            ToolError: It failed, crashed or took too long; says why.
        """
        command = json.dumps({"do": do, **arguments}) + "\n"
        try:
            self._commands.write(command.encode())
            self._commands.flush()
        except BrokenPipeError:
            raise ToolError(self._explain_end()) from None
        with selectors.DefaultSelector() as selector:
            selector.register(self._replies, selectors.EVENT_READ)
            if not selector.select(limit):
                self._process.kill()
                raise ToolError(f"took longer than {limit:.0f} s to {do}")
        line = self._replies.readline()
        if not line:
            raise ToolError(self._explain_end())
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise ToolError(" ".join(reply["error"].split())[:_LONGEST_REASON])
        return reply

    def _explain_end(self) -> str:
        """Returns how the process ended and the last line that it printed."""
        code = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        end = f"crashed with signal {-code}" if code < 0 else f"exited with {code}"
        return f"{end}: {lines[-1] if lines else 'said nothing'}"[:_LONGEST_REASON]

    def __enter__(self) -> Process:
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends the worker."""
        with contextlib.suppress(BrokenPipeError):
            self._commands.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._replies.close()
        self._log.close()
