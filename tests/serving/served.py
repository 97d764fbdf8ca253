"""Fixtures: small plans, and servers in processes or threads of their own."""

import contextlib
import signal
import subprocess
import sys
import threading

import pytest
from float_plans import ROWS, SUMS, write_float_plan

from edgekit.building.programs import find_installed
from edgekit.serving.server import serve as make_server
from edgekit.targets.errors import EdgekitError

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


class ServedInThread:
    """Python's server in a thread, which starts sooner than a process."""

    def __init__(self, plan, listen: str, **options) -> None:
        try:
            self.server = make_server(plan, listen, **options)
        except EdgekitError as error:
            raise AssertionError(error) from error
        self.address = str(self.server.address)
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends it, however: returns 0."""
        self.server.close()
        self._thread.join()
        return 0

    def close(self) -> None:
        self.stop()


@pytest.fixture
def serve(runner):
    """Starts servers: ``serve(plan, listen, *options, python=False)``; "process": Python's in one of its own."""
    with contextlib.ExitStack() as stack:

        def start(plan, listen="tcp:127.0.0.1:0", *options, python=False, env=None, program=None):
            if python and python != "process":
                names = {"--timeout": "timeout_s", "--clients": "clients", "--tls": "tls"}
                pairs = zip(options[::2], options[1::2], strict=True)
                listen = listen.replace("tcp:", "tcp://")
                thread = ServedInThread(plan, listen, **{names[k]: v for k, v in pairs})
                stack.callback(thread.close)
                return thread
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
