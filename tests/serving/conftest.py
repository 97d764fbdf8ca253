"""Small plans, and servers of them in processes of their own."""

import contextlib
import signal
import subprocess
import sys

import pytest
from float_plans import ROWS, SUMS, write_float_plan

from edgekit.build_programs import find_installed

START_S = 20


@pytest.fixture(scope="session")
def sums(tmp_path_factory):
    """A plan with a state: ``next = x + state``, ``twice = 2 next``; tensors of 12 bytes."""
    return write_float_plan(SUMS, tmp_path_factory.mktemp("sums") / "sums.plan", {"state": "next"})


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    """A plan for a batch of four."""
    return write_float_plan(ROWS, tmp_path_factory.mktemp("rows") / "rows.plan")


@pytest.fixture(scope="session")
def runner():
    """The program edgekit-run of this machine."""
    return find_installed("bin/edgekit-run")


class Served:
    """A server in a process of its own.

    Attributes:
        process: Of it.
        address: Where it said that it listens.
    """

    def __init__(self, words: list[str], env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        )
        line = self.process.stdout.readline()
        assert line.startswith("serving at "), line + self.process.stderr.read()
        self.address = line.removeprefix("serving at ").strip()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal; returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(START_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def serve(runner):
    """Starts servers: ``serve(plan, listen, *options, python=False)``."""
    with contextlib.ExitStack() as stack:

        def start(plan, listen="tcp:127.0.0.1:0", *options, python=False, env=None, program=None):
            if python:
                listen = listen.replace("tcp:", "tcp://")
                words = [sys.executable, "-m", "edgekit", "serve", str(plan), "--listen", listen]
            else:
                words = [*(program or [str(runner)]), str(plan), "--serve", listen]
            served = Served([*words, *map(str, options)], env)
            stack.callback(served.close)
            return served

        yield start


@pytest.fixture(params=[False, True], ids=["native", "python"])
def is_python(request):
    """Whether a test's server is Python's."""
    return request.param
