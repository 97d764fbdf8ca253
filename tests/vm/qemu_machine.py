"""A 64-bit Arm machine in qemu: it is switched on, prints, and is switched off or loses its power.

It is as right as a board and not as fast: its times say nothing about a board, and nothing prints them as a board's.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from power_cut_disk import PowerCutDisk

QEMU = "qemu-system-aarch64"
MIB = 512
# Two cores that other work keeps busy take many times the 5 to 12 s of a boot.
BOOT_S = 300.0
_PAUSE_S = 0.1


class MachineError(Exception):
    """A machine did not do what was waited for; holds the end of what it printed."""


class QemuMachine:
    """A machine of qemu's kind "virt".

    Args:
        cpu: qemu's name of the processor: cortex-a53, cortex-a72, cortex-a76.
        folder: For its files; `serial.log` is what it prints.
        disk: Its first disk.
        services: Ports of it that can be reached.
        arguments: More for qemu: what it boots.
    """

    def __init__(
        self,
        cpu: str,
        folder: Path,
        *,
        disk: PowerCutDisk | None = None,
        services: tuple[int, ...] = (),
        arguments: tuple[str | Path, ...] = (),
    ) -> None:
        self.cpu = cpu
        self.folder = folder
        self.disk = disk
        self.ports: Mapping[int, int] = dict.fromkeys(services, 0)
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def serial(self) -> str:
        """What it printed since it was switched on."""
        log = self.folder / "serial.log"
        return log.read_text(errors="replace") if log.is_file() else ""

    def start(self) -> None:
        """Switches it on and returns at once: several come up side by side."""
        assert self._process is None
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "serial.log").write_bytes(b"")
        if self.disk is not None:
            self.disk.begin()
        self.ports = {service: _find_port() for service in self.ports}
        # It must not outlive a killed test run.
        alone = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with (self.folder / "qemu.log").open("wb") as said:
            self._process = subprocess.Popen(
                [*alone, *self.words()],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def words(self) -> list[str | Path]:
        """Returns qemu's command."""
        network = "user,id=net,restrict=on"
        for service, port in self.ports.items():
            network += f",hostfwd=tcp:127.0.0.1:{port}-:{service}"
        words: list[str | Path] = [
            *(QEMU, "-M", "virt,gic-version=3", "-cpu", self.cpu, "-m", str(MIB)),
            *("-display", "none", "-monitor", "none", "-no-reboot"),
            *("-serial", f"file:{self.folder / 'serial.log'}", "-netdev", network),
            *("-device", "virtio-net-device,netdev=net", "-device", "virtio-rng-device"),
        ]
        if self.disk is not None:
            words += [
                *("-blockdev", f"driver=file,node-name=disk,filename={self.disk.path}"),
                *("-blockdev", f"driver=file,node-name=log,filename={self.disk.log}"),
                *("-blockdev", "driver=blklogwrites,node-name=logged,file=disk,log=log"),
                *("-device", "virtio-blk-device,drive=logged,write-cache=on"),
            ]
        return [*words, *self._arguments]

    def wait_until(self, what: str, done: Callable[[], bool], timeout_s: float = BOOT_S) -> None:
        """Waits until something is so.

        Raises:
            MachineError: qemu ended, or it takes too long.
        """
        assert self._process is not None
        end = time.monotonic() + timeout_s
        while not done():
            if self._process.poll() is not None or time.monotonic() > end:
                said = (self.folder / "qemu.log").read_text(errors="replace")
                raise MachineError(f"{self.cpu}: not {what}:\n{said}\n{self.serial[-3000:]}")
            time.sleep(_PAUSE_S)

    @property
    def processor_s(self) -> float:
        """Seconds of this machine's processors that qemu has taken since it was switched on."""
        assert self._process is not None
        stat = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(") ")[2].split()
        # User and system time, fields 14 and 15 of proc(5).
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self, seed: int = 0) -> int:
        """Cuts its power; `seed` decides what becomes of what was not flushed.

        Returns:
            How many writes had not been flushed.
        """
        self.switch_off()
        return 0 if self.disk is None else self.disk.cut(seed)

    def switch_off(self) -> None:
        """Ends qemu: what it wrote, flushed or not, is on the disk."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


def _find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
