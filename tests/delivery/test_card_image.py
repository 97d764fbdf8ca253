"""Images of cards: what is in them, that they are the same each time, and what is refused."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from staged_root import ARM64, elf_header, make_signed, read_ext4, write_key, write_mbr

from edgekit import EdgekitError, PlanError, SignatureError, ToolError
from edgekit.bundles.minisign import make_key
from edgekit.delivery.card_image import OwnSystem, write_card_image
from edgekit.delivery.flash_script import SCRIPTS, run_script

MIB = 1 << 20
X86_64 = 62


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.environ["PATH"] + ":/usr/sbin:/sbin")
    for tool in ("mkfs.ext4", "debugfs", "mkfs.vfat", "mcopy"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} (Debian: e2fsprogs, dosfstools, mtools)")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_signed(tmp_path / "bundle", release=3)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write_key(tmp_path)


@pytest.fixture
def system(tmp_path: Path) -> OwnSystem:
    for name in ("kernel", "busybox"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
    return OwnSystem(tmp_path / "kernel", tmp_path / "busybox", append="console=ttyAMA0")


def partitions(image: Path) -> list[tuple[int, int, int, str]]:
    rows = [line.split() for line in run_script("partitions.sh", [image]).splitlines()]
    return [(int(number), int(at), int(size), kind) for number, at, size, kind in rows]


def assert_whole(image: Path, offset: int) -> None:
    """Checks an ext4 file system as fsck does."""
    subprocess.run(
        ["e2fsck", "-f", "-n", f"{image}?offset={offset}"], check=True, capture_output=True
    )


def make_base(
    path: Path, *, machine: int = ARM64, mib: int = 32, features: str = "", indexed: bool = False
) -> Path:
    """Writes an image as distributions publish them: a FAT partition, and an ext4 one with a root file system."""
    tree = path.parent / "base-tree"
    (tree / "etc").mkdir(parents=True, exist_ok=True)
    (tree / "usr/bin").mkdir(parents=True, exist_ok=True)
    (tree / "etc/os-release").write_text("ID=debian\n")
    (tree / "usr/bin/dash").write_bytes(elf_header(machine))
    if indexed:
        # Enough names for an index of them, as a folder that was long in use has it.
        (tree / "var/lib").mkdir(parents=True, exist_ok=True)
        for number in range(400):
            (tree / f"var/lib/a package with a long name {number}").touch()
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate((mib + 5) * MIB)
    write_mbr(path, [(0x0C, MIB, 4 * MIB), (0x83, 5 * MIB, mib * MIB)])
    words = ["mkfs.ext4", "-q", "-F", "-E", f"offset={5 * MIB}", "-d", tree, path, f"{mib}M"]
    subprocess.run([*words[:3], *(["-O", features] if features else []), *words[3:]], check=True)
    if indexed:
        index = ["e2fsck", "-f", "-y", "-D", f"{path}?offset={5 * MIB}"]
        assert subprocess.run(index, capture_output=True, check=False).returncode in (0, 1)
    return path


def test_a_data_image_is_one_file_system_with_the_root_folder(
    bundle: Path, key: Path, tmp_path: Path
) -> None:
    image = write_card_image(bundle, tmp_path / "card.img", keys=[key])
    assert (image.release, image.size) == (3, 64 * MIB)
    assert partitions(image.path) == [(0, 0, 64 * MIB, "ext4")]
    assert_whole(image.path, 0)
    for file in bundle.rglob("*"):
        if file.is_file():
            there = f"/edgekit/slots/a/{file.relative_to(bundle)}"
            assert read_ext4(image.path, 0, there) == file.read_bytes()
    assert read_ext4(image.path, 0, "/edgekit/board") == b"rpi4\n"
    assert b"active -" in read_ext4(image.path, 0, "/edgekit/state")
    assert read_ext4(image.path, 0, "/edgekit/bin/edgekit-board") == elf_header(ARM64)


@pytest.mark.slow
def test_an_image_is_the_same_each_time(
    bundle: Path, key: Path, system: OwnSystem, tmp_path: Path
) -> None:
    base = make_base(tmp_path / "base.img")
    for number, options in enumerate(({}, {"system": system}, {"base": base})):
        images = []
        for folder in (tmp_path / f"one-{number}", tmp_path / f"a longer name {number}"):
            folder.mkdir()
            shutil.copytree(bundle, folder / "bundle")
            made = write_card_image(folder / "bundle", folder / "c.img", keys=[key], **options)
            images.append((made.path.read_bytes(), made.block_map.read_bytes()))
        assert images[0] == images[1]


@pytest.mark.slow
def test_a_card_of_its_own_boots_by_what_its_board_reads(
    bundle: Path, key: Path, system: OwnSystem, tmp_path: Path
) -> None:
    (tmp_path / "boot/overlays").mkdir(parents=True)
    (tmp_path / "boot/start4.elf").write_bytes(b"firmware")
    (tmp_path / "boot/overlays/x.dtbo").write_bytes(b"overlay")
    (tmp_path / "loader").write_bytes(b"loader" * 100)
    system = OwnSystem(
        **vars(system) | {"boot": tmp_path / "boot", "loaders": ((tmp_path / "loader", 64 * 512),)}
    )
    image = write_card_image(
        bundle, tmp_path / "card.img", keys=[key], system=system, listen="tcp:*:71", data_mib=16
    ).path
    (_, boot, _, fat), (_, data, size, ext4) = partitions(image)
    assert (boot, fat, size, ext4) == (16 * MIB, "fat", 16 * MIB, "ext4")
    assert_whole(image, data)
    with image.open("rb") as file:
        file.seek(64 * 512)
        assert file.read(600) == b"loader" * 100

    def read(name: str) -> bytes:
        return subprocess.run(
            ["mtype", "-i", f"{image}@@{boot}", f"::{name}"], check=True, capture_output=True
        ).stdout

    assert read("kernel") == system.kernel.read_bytes()
    assert read("overlays/x.dtbo") == b"overlay"
    assert b"initramfs initramfs followkernel" in read("config.txt")
    line = read("cmdline.txt").decode()
    uuid = re.fullmatch(
        r"edgekit\.data=UUID=([0-9a-f-]{36}) edgekit\.serve=tcp:\*:71 console=ttyAMA0\n", line
    )
    facts = subprocess.run(
        ["dumpe2fs", "-h", f"{image}?offset={data}"], capture_output=True, text=True, check=True
    )
    assert uuid is not None
    assert f"Filesystem UUID:          {uuid[1]}" in facts.stdout


def test_a_base_gets_the_root_folder_and_the_service(
    bundle: Path, key: Path, tmp_path: Path
) -> None:
    base = make_base(tmp_path / "base.img", indexed=True)
    before = base.read_bytes()
    image = write_card_image(
        bundle, tmp_path / "card.img", keys=[key], base=base, listen="tcp:*:7171"
    ).path
    assert base.read_bytes() == before
    at = 5 * MIB
    assert_whole(image, at)
    assert read_ext4(image, at, "/etc/os-release") == b"ID=debian\n"
    unit = read_ext4(image, at, "/etc/systemd/system/edgekit.service").decode()
    # With a thread for each of the board's cores.
    steps = "/var/lib/edgekit/bin/edgekit-service"
    assert f"ExecStart={steps} run /var/lib/edgekit /run/edgekit tcp:*:7171 4\n" in unit
    assert read_ext4(image, at, steps).startswith(b"#!/bin/sh\n")
    there = "/var/lib/edgekit/slots/a/manifest.json"
    assert read_ext4(image, at, there) == (bundle / "manifest.json").read_bytes()
    listed = subprocess.run(
        [
            "debugfs",
            "-R",
            "ls -l /etc/systemd/system/multi-user.target.wants",
            f"{image}?offset={at}",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert re.search(r" 120777 .* edgekit\.service", listed)
    assert image.read_bytes()[:at] == before[:at]


@pytest.mark.slow
def test_what_is_no_base(bundle: Path, key: Path, tmp_path: Path) -> None:
    def refuse(base: Path, match: str) -> None:
        with pytest.raises(EdgekitError, match=match):
            write_card_image(bundle, tmp_path / "card.img", keys=[key], base=base)
        assert not list(tmp_path.glob("card.img*"))

    refuse(tmp_path / "missing.img", "no such file")
    refuse(make_base(tmp_path / "x86.img", machine=X86_64), "of another processor")
    refuse(make_base(tmp_path / "small.img", mib=8), "two slots need")
    refuse(make_base(tmp_path / "journal.img", features="^has_journal"), "without a journal")
    (tmp_path / "packed.img").write_bytes(b"\x1f\x8b" * 4096)
    refuse(tmp_path / "packed.img", "neither partitions nor a file system")


def test_a_base_with_a_guid_table_is_read(tmp_path: Path) -> None:
    # A protective MBR, the header at sector 1, entries of 128 bytes from sector 2 on.
    image = bytearray(8 * MIB)
    image[446 + 4] = 0xEE
    image[510:512] = b"\x55\xaa"
    image[512:520] = b"EFI PART"
    image[512 + 72 : 512 + 88] = (2).to_bytes(8, "little") + b"\x80\0\0\0\x80\0\0\0"
    for index, (first, last) in enumerate([(2048, 4095), (4096, 16383)]):
        at = 1024 + 128 * (2 * index)
        image[at : at + 16] = b"kind of a disk. "
        image[at + 32 : at + 48] = first.to_bytes(8, "little") + last.to_bytes(8, "little")
    path = tmp_path / "gpt.img"
    path.write_bytes(image)
    subprocess.run(
        ["mkfs.ext4", "-q", "-F", "-E", f"offset={2 * MIB}", path, "4M"],
        check=True,
        capture_output=True,
    )
    assert partitions(path) == [(1, MIB, MIB, "other"), (3, 2 * MIB, 6 * MIB, "ext4")]
    image[1024 + 256 + 40 : 1024 + 256 + 48] = (1 << 40).to_bytes(8, "little")
    path.write_bytes(image)
    with pytest.raises(EdgekitError, match="partition 3 ends behind its end"):
        partitions(path)


def test_the_block_map_leaves_out_free_blocks_alone(
    bundle: Path, key: Path, tmp_path: Path
) -> None:
    image = write_card_image(bundle, tmp_path / "card.img", keys=[key])
    ranges = re.findall(r"> (\d+)-?(\d*) </Range>", image.block_map.read_text())
    used = {block for first, last in ranges for block in range(int(first), int(last or first) + 1)}
    facts = subprocess.run(["dumpe2fs", image.path], capture_output=True, text=True, check=True)
    free = {
        block
        for row in re.findall(r"^  Free blocks: (.*)$", facts.stdout, re.MULTILINE)
        for first, last in re.findall(r"(\d+)-?(\d*)", row)
        for block in range(int(first), int(last or first) + 1)
    }
    assert used | free == set(range(image.size // 4096))
    assert not used & free
    # The journal is zero, and yet travels: a card may hold another one there.
    assert len(used) > 4 * MIB // 4096


@pytest.mark.slow
def test_bmaptool_takes_the_block_map(bundle: Path, key: Path, tmp_path: Path) -> None:
    if shutil.which("bmaptool") is None:
        pytest.skip("no bmaptool (Debian: bmap-tools)")
    image = write_card_image(bundle, tmp_path / "card.img", keys=[key])
    card = tmp_path / "card"
    card.write_bytes(b"\xff" * image.size)
    words = ["bmaptool", "copy", "--bmap", image.block_map, image.path, card]
    subprocess.run(words, check=True, capture_output=True)
    assert_whole(card, 0)
    assert read_ext4(card, 0, "/edgekit/board") == b"rpi4\n"
    with image.path.open("r+b") as file:
        file.write(b"x")
    assert subprocess.run(words, check=False, capture_output=True).returncode != 0


def test_only_what_a_key_signed_gets_on_a_card(bundle: Path, key: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pub"
    other.write_text(make_key().public.to_text())
    with pytest.raises(EdgekitError, match="not signed for this device"):
        write_card_image(bundle, tmp_path / "card.img", keys=[other])
    write_card_image(bundle, tmp_path / "both.img", keys=[other, key])
    with pytest.raises(SignatureError, match="no public key"):
        write_card_image(bundle, tmp_path / "card.img", keys=[bundle / "manifest.json"])
    with pytest.raises(EdgekitError, match="needs the public key"):
        write_card_image(bundle, tmp_path / "card.img", keys=[])
    (bundle / "manifest.json.minisig").unlink()
    with pytest.raises(EdgekitError, match="a device takes signed bundles"):
        write_card_image(bundle, tmp_path / "card.img", keys=[key])
    (bundle / "model.plan").write_bytes(b"changed")
    with pytest.raises(PlanError, match="changed"):
        write_card_image(bundle, tmp_path / "card.img", keys=[key])
    assert not (tmp_path / "card.img").exists()


@pytest.mark.slow
@pytest.mark.parametrize("program", ["debugfs", "mkfs.ext4", "mkfs.vfat", "mcopy"])
def test_what_is_missing_is_said(
    bundle: Path,
    key: Path,
    system: OwnSystem,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
) -> None:
    # All of this machine's programs but one; the scripts look into /usr/sbin and /sbin too.
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for folder in ("/usr/sbin", "/usr/bin"):
        for path in Path(folder).iterdir():
            if path.name != program and not (bin_folder / path.name).exists():
                (bin_folder / path.name).symlink_to(path)
    scripts = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, scripts)
    for script in scripts.glob("*.sh"):
        script.write_text(script.read_text().replace(":/usr/sbin:/sbin", ""))
    monkeypatch.setenv("PATH", str(bin_folder))
    monkeypatch.setattr("edgekit.delivery.flash_script.SCRIPTS", scripts)
    with pytest.raises(ToolError, match=rf"{program} is missing: apt install \w+"):
        write_card_image(bundle, tmp_path / "card.img", keys=[key], system=system)


def test_every_script_tells_how_it_is_used() -> None:
    for script in sorted(SCRIPTS.glob("*.sh")):
        if "Not a program by itself" in script.read_text():
            continue
        told = subprocess.run(["sh", script, "--help"], capture_output=True, text=True, check=True)
        assert told.stdout.startswith("usage: "), script
        wrong = subprocess.run(["sh", script, "--no-such-option"], capture_output=True, check=False)
        assert wrong.returncode == 2, script
