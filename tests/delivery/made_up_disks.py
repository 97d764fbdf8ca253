"""A made-up machine's disks, as files: its /sys, /proc and /dev below a folder, for write_card.sh --system."""

from dataclasses import dataclass
from pathlib import Path

USB = "devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host0/target0:0:0/0:0:0:0/block"
SD = "devices/platform/soc/fe340000.mmc/mmc_host/mmc0/mmc0:aaaa/block"
SATA = "devices/pci0000:00/0000:00:17.0/ata1/host1/target1:0:0/1:0:0:0/block"
CARD = 1 << 20


@dataclass
class Machine:
    """A machine.

    Attributes:
        root: What is / for the script.
    """

    root: Path

    def __post_init__(self) -> None:
        for folder in ("sys/class/block", "proc/self", "dev"):
            (self.root / folder).mkdir(parents=True)
        self.mounts = ["21 1 259:2 / / rw - ext4 /dev/nvme0n1p2 rw"]
        self.swaps = ["Filename Type Size Used Priority"]
        self.write_proc()

    def write_proc(self) -> None:
        """Writes what is mounted and swapped to."""
        (self.root / "proc/self/mountinfo").write_text("".join(f"{x}\n" for x in self.mounts))
        (self.root / "proc/swaps").write_text("".join(f"{x}\n" for x in self.swaps))

    def add_disk(
        self, name: str, bus: str, number: str, *, size: int = CARD, removable: int = 0
    ) -> Path:
        """Adds a disk; returns its file."""
        folder = self._add(f"{bus}/{name}", name, number, size)
        (folder / "removable").write_text(f"{removable}\n")
        (folder / "device").mkdir()
        (folder / "device/vendor").write_text("Generic \n")
        (folder / "device/model").write_text("Card Reader     \n")
        (folder / "device/serial").write_text("0x1234abcd\n")
        return self.root / "dev" / name

    def add_partition(self, disk: str, bus: str, name: str, number: str, size: int) -> Path:
        """Adds a partition to a disk; returns its file."""
        folder = self._add(f"{bus}/{disk}/{name}", name, number, size)
        (folder / "partition").write_text("1\n")
        return self.root / "dev" / name

    def _add(self, place: str, name: str, number: str, size: int) -> Path:
        folder = self.root / "sys" / place
        (folder / "holders").mkdir(parents=True)
        (folder / "dev").write_text(f"{number}\n")
        (folder / "size").write_text(f"{size // 512}\n")
        (folder / "ro").write_text("0\n")
        (self.root / "sys/class/block" / name).symlink_to(folder)
        with (self.root / "dev" / name).open("wb") as file:
            file.truncate(min(size, 4 * CARD))
        return folder

    def sys(self, name: str) -> Path:
        """Returns a disk's folder of sysfs."""
        return self.root / "sys/class/block" / name
