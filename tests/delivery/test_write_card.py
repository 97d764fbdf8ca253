"""Which disks write_card.sh erases, and that what it writes is there."""

import hashlib
import os
import pty
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_disks import CARD, SATA, SD, USB, Machine

from edgekit import EdgekitError
from edgekit.delivery.card import write_card
from edgekit.delivery.flash_script import SCRIPTS

IMAGE = b"\xa5image" * 20000
IMAGE = IMAGE[: len(IMAGE) // 4096 * 4096]
SCRIPT = SCRIPTS / "write_card.sh"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path / "machine")
    machine.add_disk("nvme0n1", "devices/pci0000:00/nvme/nvme0", "259:0", size=500 * 10**9)
    machine.add_disk("sdb", USB, "8:16", removable=1)
    machine.add_partition("sdb", USB, "sdb1", "8:17", CARD // 2)
    return machine


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "card.img"
    path.write_bytes(IMAGE)
    return path


def run(machine: Machine, image: Path, device: str, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["sh", SCRIPT, "--system", machine.root, *words, image, machine.root / "dev" / device],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def refuse(machine: Machine, image: Path, device: str, match: str, *words: str) -> None:
    """Runs the script with everything else allowed; it must refuse and leave the disk as it is."""
    file = machine.root / "dev" / device
    before = file.read_bytes()
    done = run(machine, image, device, "--yes-erase", device, *words)
    assert done.returncode == 1, done.stdout + done.stderr
    assert match in done.stderr
    assert done.stderr.startswith("write_card: ")
    assert file.read_bytes() == before


def write(machine: Machine, image: Path, device: str, *words: str) -> str:
    done = run(machine, image, device, "--yes-erase", device, *words)
    assert done.returncode == 0, done.stderr
    assert (machine.root / "dev" / device).read_bytes().startswith(image.read_bytes())
    return done.stdout


def test_a_card_is_shown_and_written(machine: Machine, image: Path) -> None:
    told = write(machine, image, "sdb")
    assert "model      Generic Card Reader\n" in told
    assert "serial     0x1234abcd\n" in told
    assert "size       0.0 GB\n" in told
    assert "holds      sdb1  0.0 GB" in told
    assert "written    sdb, read back and compared\n" in told


def test_busybox_runs_it_too(machine: Machine, image: Path, tmp_path: Path) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("no busybox")
    applets = tmp_path / "applets"
    applets.mkdir()
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    for applet in listed.stdout.split():
        (applets / applet).symlink_to(busybox)
    disk = machine.root / "dev/sdb"
    words = ["sh", SCRIPT, "--system", machine.root, "--yes-erase", "sdb", image, disk]
    done = subprocess.run(
        [busybox, *words], capture_output=True, text=True, check=False, env={"PATH": str(applets)}
    )
    assert done.returncode == 0, done.stderr
    assert disk.read_bytes().startswith(IMAGE)


def test_a_card_in_a_slot_of_the_board_is_written(machine: Machine, image: Path) -> None:
    machine.add_disk("mmcblk0", SD, "179:0")
    (machine.sys("mmcblk0") / "device/type").write_text("SD\n")
    machine.add_disk("sdc", USB, "8:32")
    write(machine, image, "mmcblk0")
    write(machine, image, "sdc")


def test_nothing_is_written_without_a_word(machine: Machine, image: Path) -> None:
    done = run(machine, image, "sdb")
    assert done.returncode == 1
    assert "--yes-erase sdb says that" in done.stderr
    assert "model      Generic Card Reader\n" in done.stdout
    assert run(machine, image, "sdb", "--yes-erase", "sda").returncode == 1
    assert run(machine, image, "sdb", "--check").returncode == 0
    assert not any((machine.root / "dev/sdb").read_bytes())


def edit(path: Path, text: str) -> None:
    path.write_text(text)


def mount(row: str) -> Callable[[Machine], None]:
    def change(machine: Machine) -> None:
        machine.mounts.append(row)
        machine.write_proc()

    return change


def swap(machine: Machine) -> None:
    machine.swaps.append("/dev/sdb1 partition 1048572 0 -2")
    machine.write_proc()


# What LVM, mdadm and ZFS write at the begin of what is theirs, as far as blkid looks at it.
def make_lvm(machine: Machine) -> None:
    body = ((32).to_bytes(4, "little") + b"LVM2 001" + b"a" * 32).ljust(492, b"\0")
    label = b"LABELONE" + (1).to_bytes(8, "little") + lvm_sum(body).to_bytes(4, "little")
    forge(machine, "sdb1", {512: label + body})


def lvm_sum(content: bytes) -> int:
    """LVM's CRC-32, from 0xf597a6cf on."""
    crc = 0xF597A6CF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    return crc


def make_raid(machine: Machine) -> None:
    words = [0] * 64
    words[0:2] = 0xA92B4EFC, 1
    words[36] = 8  # where it lies itself, in sectors
    words[54] = sum(words)
    forge(machine, "sdb1", {4096: b"".join(word.to_bytes(4, "little") for word in words)})


def make_zfs(machine: Machine) -> None:
    places = [label + number * 1024 for label in (128 << 10, 384 << 10) for number in range(32)]
    forge(machine, "sdb", {place: (0x00BAB10C).to_bytes(8, "little") for place in places})


def forge(machine: Machine, name: str, parts: dict[int, bytes]) -> None:
    """Writes parts of a disk's file, which gets a size that none of these is too large for."""
    with (machine.root / "dev" / name).open("r+b") as file:
        file.truncate(80 << 20)
        for place, content in parts.items():
            file.seek(place)
            file.write(content)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (mount("30 1 8:17 / /media/card rw - vfat /dev/sdb1 rw"), "mounted at /media/card"),
        (mount("30 1 8:16 / / rw - ext4 /dev/root rw"), "holds / of the running system"),
        (mount("30 1 8:17 / /boot/efi rw shared:1 - vfat /dev/sdb1 rw"), "holds /boot/efi of"),
        (mount("30 1 0:45 /@ /mnt rw shared:7 - btrfs /dev/sdb1 rw"), "mounted at /mnt"),
        (swap, "is swap of the running system"),
        (lambda m: (m.sys("sdb1") / "holders/dm-0").mkdir(), "in use by dm-0"),
        (lambda m: (m.sys("sdb") / "holders/md127").mkdir(), "in use by md127"),
        (lambda m: edit(m.sys("sdb") / "ro", "1\n"), "write-protected"),
        (lambda m: edit(m.sys("sdb") / "size", "0\n"), "no card in it"),
        (lambda m: edit(m.sys("sdb") / "size", "8\n"), "holds 4096 bytes, and the image has"),
        (lambda m: edit(m.sys("sdb") / "size", f"{10**12 // 512}\n"), "1000.0 GB is more than"),
        (make_lvm, "part of an LVM volume group"),
        (make_raid, "part of a RAID"),
        (make_zfs, "part of a ZFS pool"),
    ],
)
def test_what_may_be_another_disk_is_refused(
    machine: Machine, image: Path, change: Callable[[Machine], object], match: str
) -> None:
    change(machine)
    refuse(machine, image, "sdb", match)


def test_a_disk_of_the_machine_is_refused(machine: Machine, image: Path) -> None:
    machine.add_disk("sda", SATA, "8:0")
    refuse(machine, image, "sda", "not removable: a disk of this machine")
    refuse(machine, image, "nvme0n1", "not removable")
    machine.add_disk("mmcblk1", SD.replace("mmc0", "mmc1"), "179:8")
    edit(machine.sys("mmcblk1") / "device/type", "MMC\n")
    refuse(machine, image, "mmcblk1", "soldered memory (MMC), not a card")
    write(machine, image, "sda", "--fixed")
    machine.mounts.append("30 1 8:0 / /home rw - ext4 /dev/sda rw")
    machine.write_proc()
    refuse(machine, image, "sda", "holds /home of the running system", "--fixed")


def test_a_partition_is_written_only_when_asked_for(machine: Machine, image: Path) -> None:
    refuse(machine, image, "sdb1", "a partition of sdb, not a whole card")
    refuse(machine, image, "sdb", "a whole card, not a partition", "--partition")
    write(machine, image, "sdb1", "--partition")


@pytest.mark.parametrize("name", ["md0", "dm-1", "zram0", "sr0", "mmcblk0boot0"])
def test_what_is_no_card(machine: Machine, image: Path, name: str) -> None:
    machine.add_disk(name, "devices/virtual/block", "9:0", removable=1)
    refuse(machine, image, name, "is no card")


def test_what_is_no_device(machine: Machine, image: Path, tmp_path: Path) -> None:
    def fail(match: str, *words: str | Path) -> None:
        done = subprocess.run(["sh", SCRIPT, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert match in done.stderr

    fail("not a block device", image, image)
    fail("not a block device", image, "/dev/null")
    fail("no such device", image, "/dev/no-such-card")
    fail("no such image", tmp_path / "none.img", "/dev/null")
    # A made-up system never leads to a real device, nor a link out of it.
    fail("not below", "--system", machine.root, image, "/dev/null")
    (machine.root / "dev/sdz").symlink_to("/dev/null")
    fail("not below", "--system", machine.root, image, machine.root / "dev/sdz")
    (machine.root / "dev/sdx").write_bytes(bytes(CARD))
    done = run(machine, image, "sdx", "--yes-erase", "sdx")
    assert "the kernel knows no block device sdx" in done.stderr


def test_a_link_to_a_card_is_followed(machine: Machine, image: Path) -> None:
    (machine.root / "dev/by-id").mkdir()
    (machine.root / "dev/by-id/usb-card").symlink_to("../sdb")
    done = run(machine, image, "by-id/usb-card", "--yes-erase", "sdb")
    assert done.returncode == 0, done.stderr
    assert (machine.root / "dev/sdb").read_bytes().startswith(IMAGE)


def test_an_image_that_is_not_whole_is_refused(machine: Machine, image: Path) -> None:
    image.write_bytes(IMAGE[:-100])
    refuse(machine, image, "sdb", "not of whole sectors")
    image.write_bytes(b"")
    refuse(machine, image, "sdb", "not of whole sectors")


def write_block_map(image: Path, ranges: list[tuple[int, int]]) -> None:
    content = image.read_bytes()
    rows = "".join(
        f'<Range chksum="{hashlib.sha256(content[a * 4096 : (b + 1) * 4096]).hexdigest()}"> {a}-{b} </Range>\n'
        for a, b in ranges
    )
    image.with_name(image.name + ".bmap").write_text(
        f"<ImageSize> {len(content)} </ImageSize>\n<BlockSize> 4096 </BlockSize>\n{rows}"
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=10)
@given(st.sets(st.integers(0, len(IMAGE) // 4096 - 1), min_size=1))
def test_only_the_blocks_of_the_map_travel(
    tmp_path_factory: pytest.TempPathFactory, blocks: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("map")
    machine = Machine(folder / "machine")
    card = machine.add_disk("sdb", USB, "8:16", removable=1)
    card.write_bytes(b"\xff" * CARD)
    image = folder / "card.img"
    image.write_bytes(IMAGE)
    write_block_map(image, [(block, block) for block in sorted(blocks)])
    # bmaptool wants a whole map; the script's own copy is what is tried here.
    scripts = folder / "write_card.sh"
    scripts.write_text(SCRIPT.read_text().replace("command -v bmaptool", "command -v no-bmaptool"))
    subprocess.run(
        ["sh", scripts, "--system", machine.root, "--yes-erase", "sdb", image, card],
        check=True,
        capture_output=True,
    )
    there = card.read_bytes()
    for block in range(len(IMAGE) // 4096):
        part = slice(block * 4096, (block + 1) * 4096)
        assert there[part] == (IMAGE[part] if block in blocks else b"\xff" * 4096)


def test_a_map_of_another_image_is_refused(machine: Machine, image: Path) -> None:
    write_block_map(image, [(0, 3)])
    image.write_bytes(b"x" + IMAGE[1:])
    refuse(machine, image, "sdb", "damaged: not what")
    image.write_bytes(IMAGE + bytes(4096))
    refuse(machine, image, "sdb", "is not of this image")


def test_a_card_that_reads_back_other_bytes_is_told(machine: Machine, image: Path) -> None:
    # A card that keeps nothing: what dd writes is lost.
    bad = machine.root / "bin"
    bad.mkdir()
    (bad / "dd").write_text(
        '#!/bin/sh\ncase "$*" in *of=*) exit 0 ;; esac\nexec /usr/bin/dd "$@"\n'
    )
    (bad / "dd").chmod(0o755)
    done = subprocess.run(
        [
            "sh",
            SCRIPT,
            "--system",
            machine.root,
            "--yes-erase",
            "sdb",
            image,
            machine.root / "dev/sdb",
        ],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PATH": f"{bad}:{os.environ['PATH']}"},
    )
    assert done.returncode == 1
    assert "reads back other bytes than were written" in done.stderr


@pytest.mark.parametrize(("answer", "written"), [("sdb", True), ("yes", False), ("", False)])
def test_a_person_types_the_name(machine: Machine, image: Path, answer: str, written: bool) -> None:
    mother, child = pty.openpty()
    with subprocess.Popen(
        ["sh", SCRIPT, "--system", machine.root, image, machine.root / "dev/sdb"],
        stdin=child,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.write(mother, f"{answer}\n".encode())
        out, error = process.communicate(timeout=60)
    os.close(mother)
    os.close(child)
    assert "Type its name (sdb) to go on" in out
    assert (process.returncode == 0) == written
    assert ("nothing was written" in error) == (not written)
    assert (machine.root / "dev/sdb").read_bytes().startswith(IMAGE) == written


def test_a_loop_device_is_written_as_a_card_is(image: Path, tmp_path: Path) -> None:
    backing = tmp_path / "backing"
    backing.write_bytes(bytes(CARD))
    if os.geteuid() != 0 or shutil.which("losetup") is None:
        pytest.skip("loop devices are root's")
    found = subprocess.run(
        ["losetup", "--find", "--show", backing], capture_output=True, text=True, check=False
    )
    if found.returncode != 0:
        pytest.skip(f"no loop devices here: {found.stderr.strip()}")
    device = found.stdout.strip()
    name = Path(device).name
    try:
        with pytest.raises(EdgekitError, match="not removable"):
            write_card(image, device, erase=name)
        with pytest.raises(EdgekitError, match=f"'sda' is not {name}"):
            write_card(image, device, erase="sda", fixed=True)
        told = write_card(image, device, erase=name, fixed=True)
        assert "read back and compared" in told
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
    assert backing.read_bytes().startswith(IMAGE)
