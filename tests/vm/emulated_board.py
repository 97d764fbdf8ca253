"""A whole board in qemu: 64-bit Arm, Debian's kernel, a disk, and ssh. It is as right as a board and not as fast.

Times taken on it say nothing about a board: nothing prints them as a board's.
"""

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from board_initramfs import BootFiles, write_cpio
from power_cut_disk import PowerCutDisk

from edgekit.delivery.ssh import DEFAULT_ROOT, Completed, Ssh, SshAddress

QEMU = "qemu-system-aarch64"
MIB = 512
# Two cores that other work keeps busy take several times the 5 to 12 s of a boot.
BOOT_S = 240.0


class BoardError(Exception):
    """A board did not come up; holds the end of what it printed."""


@dataclass(frozen=True)
class Keys:
    """A session's keys for ssh.

    Attributes:
        folder: Where they lie: `client` opens the boards, `host` is theirs, `known_hosts` names it.
    """

    folder: Path

    @property
    def options(self) -> list[str]:
        """Words for ssh, EDGEKIT_SSH_OPTIONS say: this key alone, and boards known by theirs whatever their port."""
        return [
            *("-F", "none", "-i", str(self.folder / "client"), "-o", "IdentitiesOnly=yes"),
            *("-o", f"UserKnownHostsFile={self.folder / 'known_hosts'}"),
            *("-o", "HostKeyAlias=edgekit-emulated-board", "-o", "StrictHostKeyChecking=yes"),
        ]


def make_keys(folder: Path) -> Keys:
    """Makes keys for one session of tests."""
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    client, host = folder / "client", folder / "host"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", client], **quiet)
    subprocess.run(["dropbearkey", "-t", "ed25519", "-f", host], **quiet)
    told = subprocess.run(
        ["dropbearkey", "-y", "-f", host], check=True, capture_output=True, text=True
    )
    (line,) = [line for line in told.stdout.splitlines() if line.startswith("ssh-ed25519 ")]
    (folder / "known_hosts").write_text(f"edgekit-emulated-board {line}\n")
    return Keys(folder)


class EmulatedBoard:
    """A board in qemu.

    Args:
        cpu: qemu's name of the processor: cortex-a53, cortex-a72, cortex-a76.
        folder: For its files; `serial.log` is what it prints.
        boot: Kernel and initramfs.
        keys: Who may come in.
        disk: Mounted at /var/lib; without one, that is memory.
        arguments: More for qemu.
    """

    def __init__(
        self,
        cpu: str,
        folder: Path,
        boot: BootFiles,
        keys: Keys,
        *,
        disk: PowerCutDisk | None = None,
        arguments: tuple[str | Path, ...] = (),
    ) -> None:
        self.cpu = cpu
        self.folder = folder
        self.disk = disk
        self.port = 0
        self._boot = boot
        self._keys = keys
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where its bundles are."""
        return f"ssh://root@127.0.0.1:{self.port}{DEFAULT_ROOT}"

    @property
    def serial(self) -> str:
        """What it printed."""
        log = self.folder / "serial.log"
        return log.read_text(errors="replace") if log.is_file() else ""

    def start(self) -> None:
        """Switches it on and returns at once: several come up side by side."""
        assert self._process is None
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "serial.log").write_bytes(b"")
        if self.disk is not None:
            self.disk.begin()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        # A board must not outlive a killed test run.
        alone = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        self._process = subprocess.Popen(
            [*alone, *self._words()],
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "qemu.log").open("wb"),
            stderr=subprocess.STDOUT,
        )

    def _words(self) -> list[str | Path]:
        """Returns qemu's command."""
        initramfs = self.folder / "initramfs"
        initramfs.write_bytes(self._boot.initramfs.read_bytes() + self._write_keys())
        words: list[str | Path] = [
            *(QEMU, "-M", "virt,gic-version=3", "-cpu", self.cpu, "-m", str(MIB)),
            *("-display", "none", "-monitor", "none", "-no-reboot"),
            *("-serial", f"file:{self.folder / 'serial.log'}"),
            *("-kernel", self._boot.kernel, "-initrd", initramfs),
            *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22"),
            *("-device", "virtio-net-device,netdev=net", "-device", "virtio-rng-device"),
        ]
        line = f"console=ttyAMA0 quiet panic=-1 edgekit.name={self.cpu}"
        if self.disk is not None:
            words += [
                *("-blockdev", f"driver=file,node-name=disk,filename={self.disk.path}"),
                *("-blockdev", f"driver=file,node-name=log,filename={self.disk.log}"),
                *("-blockdev", "driver=blklogwrites,node-name=logged,file=disk,log=log"),
                *("-device", "virtio-blk-device,drive=logged,write-cache=on"),
            ]
            line += " edgekit.disk=/dev/vda"
        return [*words, "-append", line, *self._arguments]

    def _write_keys(self) -> bytes:
        """Returns the session's part of the initramfs."""
        tree = self.folder / "keys"
        for name, source in (
            ("etc/dropbear/host_key", "host"),
            ("root/.ssh/authorized_keys", "client.pub"),
        ):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self._keys.folder / source, tree / name)
            (tree / name).chmod(0o600)
        return write_cpio(tree)

    def wait(self, timeout_s: float = BOOT_S) -> "EmulatedBoard":
        """Waits until ssh answers.

        Raises:
            BoardError: qemu ended, or it takes too long.
        """
        assert self._process is not None
        end = time.monotonic() + timeout_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                said = (self.folder / "qemu.log").read_text(errors="replace")
                raise BoardError(f"{self.cpu} did not come up:\n{said}\n{self.serial[-2000:]}")
            time.sleep(0.1)
        return self

    def _answers(self) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection,
        ):
            return connection.recv(4) == b"SSH-"
        return False

    def run(
        self, command: str, *, stdin: bytes = b"", timeout_s: float = 120, check: bool = True
    ) -> Completed:
        """Runs a command on the board.

        Raises:
            ToolError: It failed, and `check` is set.
        """
        return Ssh(SshAddress.parse(self.address), self._keys.options).run(
            command, stdin=stdin, timeout_s=timeout_s, check=check
        )

    def kill(self, seed: int = 0) -> int:
        """Cuts its power; `seed` decides what becomes of what was not flushed.

        Returns:
            How many writes had not been flushed.
        """
        self._end(signal.SIGKILL)
        return 0 if self.disk is None else self.disk.cut(seed)

    def stop(self) -> None:
        """Switches it off after all it wrote is on its disk."""
        if self.disk is not None:
            self.run("sync; umount /var/lib")
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def switch_off(self) -> None:
        """Ends qemu, whatever becomes of the disk."""
        self._end(signal.SIGKILL)


MakeBoard = Callable[..., EmulatedBoard]
