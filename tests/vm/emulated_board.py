"""A board in qemu that is reached by ssh and has busybox besides: Debian's kernel, dropbear, and a disk."""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from board_initramfs import BootFiles, write_cpio
from power_cut_disk import PowerCutDisk
from qemu_machine import BOOT_S, MachineError, QemuMachine

from edgekit.delivery.ssh import DEFAULT_ROOT, Completed, Ssh, SshAddress

SSH_PORT = 22
# What `init` prints.
_NOT_MOUNTED = "could not be mounted"


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


class EmulatedBoard(QemuMachine):
    """A board that ssh reaches.

    Args:
        cpu: qemu's name of the processor: cortex-a53, cortex-a72, cortex-a76.
        folder: For its files; `serial.log` is what it prints.
        boot: Kernel and initramfs.
        keys: Who may come in.
        disk: Mounted at /var/lib; without one, that is memory.
        services: Ports that can be reached besides ssh's.
    """

    def __init__(
        self,
        cpu: str,
        folder: Path,
        boot: BootFiles,
        keys: Keys,
        *,
        disk: PowerCutDisk | None = None,
        services: tuple[int, ...] = (),
    ) -> None:
        super().__init__(cpu, folder, disk=disk, services=(SSH_PORT, *services))
        self._boot = boot
        self._keys = keys

    @property
    def address(self) -> str:
        """Where its bundles are."""
        return f"ssh://root@127.0.0.1:{self.ports[SSH_PORT]}{DEFAULT_ROOT}"

    def words(self) -> list[str | Path]:
        """Returns qemu's command."""
        initramfs = self.folder / "initramfs"
        initramfs.write_bytes(self._boot.initramfs.read_bytes() + self._write_keys())
        line = f"console=ttyAMA0 quiet panic=-1 edgekit.name={self.cpu}"
        if self.disk is not None:
            line += " edgekit.disk=/dev/vda"
        boot = ("-kernel", self._boot.kernel, "-initrd", initramfs, "-append", line)
        return [*super().words(), *boot]

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

    def wait(self, timeout_s: float = BOOT_S) -> None:
        """Waits until ssh answers.

        Raises:
            MachineError: qemu ended, it takes too long, or its disk can't be mounted.
        """
        self.wait_until("reached by ssh", self._answers, timeout_s)
        if _NOT_MOUNTED in self.serial:
            raise MachineError(f"{self.cpu} came up without its disk:\n{self.serial[-3000:]}")

    def _answers(self) -> bool:
        port = self.ports[SSH_PORT]
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
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

    def stop(self) -> None:
        """Switches it off after all it wrote is on its disk."""
        self.run("sync; umount /var/lib")
        self.switch_off()


MakeBoard = Callable[..., EmulatedBoard]
