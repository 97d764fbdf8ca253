"""A board in qemu that boots a card as boards do: U-Boot reads the card's boot partition, and nothing else is given."""

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from board_initramfs import CACHE
from debian_packages import AptRoot, unpack
from emulated_board import MIB, QEMU, BoardError
from power_cut_disk import PowerCutDisk

import edgekit
from edgekit.serving.client import RemoteSession
from edgekit.targets.errors import EdgekitError

LOADER = "u-boot-qemu"
PORT = 7070
# Two cores that other work keeps busy take several times the 10 s of a boot.
BOOT_S = 300.0


def fetch_loader() -> Path:
    """Returns U-Boot for qemu's arm64 machine.

    Raises:
        PackagesError: It is missing, and packages can't be had.
    """
    folder = CACHE / LOADER
    loader = folder / "usr/lib/u-boot/qemu_arm64/u-boot.bin"
    if not loader.is_file():
        apt = AptRoot(CACHE / "apt")
        apt.update()
        (archive,) = apt.download([LOADER])
        unpack(archive, folder)
    return loader


class CardBoard:
    """A board whose only disk is a card.

    Args:
        cpu: qemu's name of the processor.
        loader: What `fetch_loader` returns.
        disk: The card.
        folder: For `serial.log`, which is what it prints.
    """

    def __init__(self, cpu: str, loader: Path, disk: PowerCutDisk, folder: Path) -> None:
        self.cpu = cpu
        self.disk = disk
        self.folder = folder
        self.port = 0
        self._loader = loader
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def serial(self) -> str:
        """What it printed since it was switched on."""
        log = self.folder / "serial.log"
        return log.read_text(errors="replace") if log.is_file() else ""

    def start(self) -> None:
        """Switches it on and returns at once."""
        assert self._process is None
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "serial.log").write_bytes(b"")
        self.disk.begin()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        alone = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        words = [
            *(QEMU, "-M", "virt,gic-version=3", "-cpu", self.cpu, "-m", str(MIB)),
            *("-display", "none", "-monitor", "none", "-no-reboot", "-bios", self._loader),
            *("-serial", f"file:{self.folder / 'serial.log'}"),
            *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:{PORT}"),
            *("-device", "virtio-net-device,netdev=net", "-device", "virtio-rng-device"),
            *("-blockdev", f"driver=file,node-name=disk,filename={self.disk.path}"),
            *("-blockdev", f"driver=file,node-name=log,filename={self.disk.log}"),
            *("-blockdev", "driver=blklogwrites,node-name=logged,file=disk,log=log"),
            *("-device", "virtio-blk-device,drive=logged,write-cache=on"),
        ]
        self._process = subprocess.Popen(
            [*alone, *words],
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "qemu.log").open("wb"),
            stderr=subprocess.STDOUT,
        )

    def connect(self, timeout_s: float = BOOT_S) -> RemoteSession:
        """Waits until the model answers.

        Raises:
            BoardError: qemu ended, or it takes too long.
        """
        assert self._process is not None
        end = time.monotonic() + timeout_s
        while True:
            try:
                return edgekit.connect(f"tcp://127.0.0.1:{self.port}", timeout_s=10)
            except EdgekitError as error:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise BoardError(f"no service: {error}\n{self.serial[-3000:]}") from error
            time.sleep(0.2)

    def wait_for(self, text: str, timeout_s: float = BOOT_S) -> None:
        """Waits until it has printed something.

        Raises:
            BoardError: qemu ended, or it takes too long.
        """
        assert self._process is not None
        end = time.monotonic() + timeout_s
        while text not in self.serial:
            if self._process.poll() is not None or time.monotonic() > end:
                raise BoardError(f"it never printed {text!r}:\n{self.serial[-3000:]}")
            time.sleep(0.05)

    def kill(self, seed: int) -> int:
        """Cuts its power; returns how many writes had not been flushed, of which `seed` decides what becomes."""
        self.switch_off()
        return self.disk.cut(seed)

    def switch_off(self) -> None:
        """Ends qemu, whatever becomes of the card."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
