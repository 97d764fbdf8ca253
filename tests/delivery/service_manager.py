"""Does with the lines of a unit what systemd does with a service of type notify, where no systemd runs."""

import configparser
import os
import shlex
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass
class ServiceManager:
    """Starts a service and hears from it.

    Attributes:
        unit: Its lines, read as systemd reads them: a leading + is who runs it.
        run: Its folder of what is there while it runs.
        process: Its main process, None where none runs.
    """

    unit: configparser.SectionProxy
    run: Path
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def read(cls, text: str, run: Path) -> "ServiceManager":
        """Reads a unit; `run` stands for /run/edgekit."""
        parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(text.replace("/run/edgekit", str(run)))
        run.mkdir()
        return cls(parser["Service"], run)

    def start(self, seconds: float = 20) -> bool:
        """Starts it once; returns whether it became ready and all its steps succeeded."""
        if self._do("ExecStartPre") != 0:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(self.run / "notify"))
            notify.settimeout(0.05)
            try:
                watched = str(int(self.unit["WatchdogSec"]) * 1_000_000)
                environment = os.environ | {
                    "NOTIFY_SOCKET": str(self.run / "notify"),
                    "WATCHDOG_USEC": watched,
                }
                words = shlex.split(self.unit["ExecStart"])
                self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, env=environment)
                ready = self._wait(notify, seconds)
            finally:
                (self.run / "notify").unlink()
        if ready and self._do("ExecStartPost") == 0:
            return True
        self.stop()
        return False

    def restart(self, most: int = 10) -> int:
        """Stops it and starts it until it is ready; returns how many starts failed."""
        self.stop()
        for failed in range(most):
            if self.start():
                return failed
        raise AssertionError(f"{most} starts failed")

    def stop(self) -> None:
        """Ends it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=20)
            self.process = None

    def _do(self, name: str) -> int:
        return subprocess.run(
            shlex.split(self.unit[name].removeprefix("+")), check=False, capture_output=True
        ).returncode

    def _wait(self, notify: socket.socket, seconds: float) -> bool:
        assert self.process is not None
        for _ in range(int(seconds / 0.05)):
            try:
                if b"READY=1" in notify.recv(4096):
                    return True
            except TimeoutError:
                if self.process.poll() is not None:
                    return False
        return False
