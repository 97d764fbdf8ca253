"""A board in qemu that boots a card as boards do: U-Boot reads the card's boot partition, and nothing else is given."""

from pathlib import Path

from board_initramfs import CACHE
from debian_packages import AptRoot, unpack
from power_cut_disk import PowerCutDisk
from qemu_machine import QemuMachine

import edgekit
from edgekit.serving.client import RemoteSession
from edgekit.targets.errors import EdgekitError

LOADER = "u-boot-qemu"
PORT = 7070


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


class CardBoard(QemuMachine):
    """A board whose only disk is a card.

    Args:
        cpu: qemu's name of the processor.
        folder: For its files.
        loader: What `fetch_loader` returns.
        card: The card.
    """

    def __init__(self, cpu: str, folder: Path, loader: Path, card: PowerCutDisk) -> None:
        super().__init__(cpu, folder, disk=card, services=(PORT,), arguments=("-bios", loader))
        self.card = card

    def connect(self) -> RemoteSession:
        """Waits until the model answers.

        Raises:
            MachineError: qemu ended, or it takes too long.
        """
        sessions: list[RemoteSession] = []

        def answers() -> bool:
            try:
                address = f"tcp://127.0.0.1:{self.ports[PORT]}"
                sessions.append(edgekit.connect(address, timeout_s=10))
            except EdgekitError:
                return False
            return True

        self.wait_until("serving", answers)
        return sessions[0]
