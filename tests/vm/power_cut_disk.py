"""A disk that loses what a power cut loses, and every state in which one could have left it.

A guest that has written and not flushed may find any part of it after a power cut: disks have caches, and write in an
order of their own. Killing qemu alone does not show that, since what the guest wrote is in this machine's memory by
then and stays. So qemu's ``blklogwrites`` driver logs each write and flush in the format of Linux's dm-log-writes
(Documentation/admin-guide/device-mapper/log-writes.rst), and the disk after a cut is made anew from the disk before and
the log: all that was flushed, and of what came after the last flush any pieces, chosen by a seed. Nothing in the guest
knows of it.

Flash and today's disks write 4 KiB whole or not at all. ext4 counts on it: where 512 bytes of its superblock or of a
journal's commit are new and the next 512 old, their checksums are wrong, and it mounts only after a check by e2fsck.
"""

import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512
PAGE = 4096
_MAGIC = 0x6A736677736872
_FLUSH, _FUA, _DISCARD = 1, 2, 4


@dataclass(frozen=True)
class Write:
    """An entry of the log.

    Attributes:
        offset: Where on the disk, in bytes.
        content: What was written; a flush has none.
        flush: Whether all that was written before is on the disk from here on.
    """

    offset: int
    content: bytes
    flush: bool


def read_log(log: Path) -> Iterator[Write]:
    """Yields what blklogwrites logged, in order; discards are left out, since a disk need not act on them."""
    with log.open("rb") as file:
        magic, version, _, sector = struct.unpack("<QQQI", file.read(28))
        assert (magic, version, sector) == (_MAGIC, 1, SECTOR)
        at = SECTOR
        # The head's count of entries lags behind; beyond the last entry there is nothing, or zeros.
        while True:
            file.seek(at)
            head = file.read(32)
            if len(head) < 32:
                return
            where, sectors, flags, _ = struct.unpack("<QQQQ", head)
            if sectors == 0 and flags == 0:
                return
            at += SECTOR
            content = b""
            if sectors and not flags & _DISCARD:
                file.seek(at)
                content = file.read(sectors * SECTOR)
                at += sectors * SECTOR
                if len(content) < sectors * SECTOR:
                    return
            assert not flags & _FUA, "virtio has no writes that are flushed by themselves"
            if content or flags & _FLUSH:
                yield Write(where * SECTOR, content, bool(flags & _FLUSH))


def apply_cut(
    image: bytearray,
    writes: list[Write],
    kept: float,
    random_: random.Random,
    whole: int = SECTOR,
) -> None:
    """Brings a disk from before `writes` to what a cut after them may leave.

    Args:
        image: The disk's content, which is changed.
        writes: What the guest did up to the cut.
        kept: The share of what was written after the last flush that is on the disk.
        random_: Chooses which.
        whole: Bytes that the disk writes whole or not at all.
    """
    flushed = count_flushed(writes)
    for write in writes[:flushed]:
        image[write.offset : write.offset + len(write.content)] = write.content
    for write in writes[flushed:]:
        at, end = write.offset, write.offset + len(write.content)
        while at < end:
            until = min((at // whole + 1) * whole, end)
            if random_.random() < kept:
                image[at:until] = write.content[at - write.offset : until - write.offset]
            at = until


def count_flushed(writes: list[Write]) -> int:
    """Returns how many of the first writes are certainly on the disk."""
    return max((i + 1 for i, write in enumerate(writes) if write.flush), default=0)


@dataclass
class PowerCutDisk:
    """A disk with one ext4 file system for an emulated board.

    Attributes:
        path: The file that the guest writes.
        before: The disk when the guest was last started.
        log: What the guest wrote since.
    """

    path: Path

    @property
    def before(self) -> Path:
        """The disk when the guest was last started."""
        return self.path.with_suffix(".before")

    @property
    def log(self) -> Path:
        """What the guest wrote since."""
        return self.path.with_suffix(".log")

    def begin(self) -> None:
        """Makes ready for a start of the guest."""
        copy_image(self.path, self.before)
        self.log.write_bytes(b"")

    def cut(self, seed: int) -> int:
        """Makes the disk what it may be after power was cut; returns how many writes were at the cut's mercy."""
        writes = list(read_log(self.log))
        image = bytearray(self.before.read_bytes())
        random_ = random.Random(seed)
        # Disks keep nearly nothing, nearly everything, or anything between.
        apply_cut(image, writes, random_.choice((0.0, 0.1, 0.5, 0.9, 1.0)), random_, PAGE)
        self.path.write_bytes(image)
        return len(writes) - count_flushed(writes)


def make_disk(path: Path, mebibytes: int = 64) -> PowerCutDisk:
    """Makes a disk with an empty ext4, as mkfs makes it by default but without work left for the first mount."""
    with path.open("wb") as file:
        file.truncate(mebibytes << 20)
    subprocess.run(
        ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", path], check=True
    )
    return PowerCutDisk(path)


def copy_image(source: Path, target: Path) -> None:
    """Copies a file with its holes."""
    target.unlink(missing_ok=True)
    cp = shutil.which("cp")
    assert cp is not None
    subprocess.run([cp, "--sparse=always", source, target], check=True)


def recover(image: Path) -> None:
    """Does what a system does at its start: replays the journal, by e2fsck -p. What that can't repair is an error."""
    done = subprocess.run(
        ["e2fsck", "-f", "-p", image], capture_output=True, text=True, check=False
    )
    # 1: repaired without a question, as replaying is.
    assert done.returncode in (0, 1), done.stdout


def extract(image: Path, path: str, folder: Path) -> None:
    """Copies a folder out of an ext4 image; needs neither root nor a mount."""
    subprocess.run(
        ["debugfs", "-R", f"rdump {path} {folder}", image], capture_output=True, check=True
    )
