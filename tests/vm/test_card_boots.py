"""A card boots to a running model service, whatever power cuts there were, and its answers are right to the byte."""

import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from board_initramfs import BootFiles
from card_board import CardBoard, fetch_loader
from debian_packages import PackagesError
from power_cut_disk import PowerCutDisk, apply_cut, extract, read_log, recover
from real_bundles import deploy_ds_cnn
from signed_bundles import KEY

from edgekit.bundles.bundle import read_bundle
from edgekit.bundles.golden import read_array
from edgekit.delivery.card_image import OwnSystem, write_card_image
from edgekit.delivery.flash_script import find_board_program, run_script

pytestmark = [pytest.mark.slow, pytest.mark.cross]

# A board whose boot loader reads extlinux.conf, as U-Boot does on qemu's machine.
TARGET = "imx8mp"
CPU = "cortex-a53"
CUTS = 40


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deploy_ds_cnn(tmp_path_factory.mktemp("card") / "bundle", 1, target=TARGET)


@pytest.fixture(scope="module")
def card(bundle: Path, boot_files: BootFiles) -> Path:
    """An image that nothing has booted yet."""
    for tool in ("mkfs.vfat", "mcopy", "debugfs"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} (Debian: dosfstools, mtools, e2fsprogs)")
    folder = bundle.parent
    key = folder / "team.pub"
    key.write_text(KEY.public.to_text())
    unpack_cpio(boot_files.initramfs, folder / "tree")
    system = OwnSystem(
        kernel=boot_files.kernel,
        busybox=folder / "tree/bin/busybox",
        modules=folder / "tree/modules",
        append="console=ttyAMA0 quiet panic=-1",
    )
    return write_card_image(
        bundle,
        folder / "card.img",
        keys=[key],
        system=system,
        data_mib=16,
    ).path


@pytest.fixture
def board(card: Path, tmp_path: Path) -> Iterator[CardBoard]:
    """A board with a card that nothing has booted yet, switched off."""
    try:
        loader = fetch_loader()
    except PackagesError as error:
        pytest.skip(f"no U-Boot for qemu: {error}")
    shutil.copy(card, tmp_path / "card.raw")
    board = CardBoard(CPU, tmp_path, loader, PowerCutDisk(tmp_path / "card.raw"))
    yield board
    board.switch_off()


def unpack_cpio(archive: Path, folder: Path) -> None:
    """Unpacks the files of an archive of the kernel's format."""
    content = archive.read_bytes()
    at = 0
    while True:
        fields = [int(content[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, length = fields[1], fields[6], fields[11]
        name = content[at + 110 : at + 110 + length - 1].decode()
        body = (at + 110 + length + 3) & ~3
        at = (body + size + 3) & ~3
        if name == "TRAILER!!!":
            return
        if mode & 0o170000 == 0o100000:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content[body : body + size])


def assert_answers(board: CardBoard, bundle: Path) -> None:
    """Asks the model for the golden outputs."""
    golden = read_bundle(bundle)
    with board.connect() as session:
        inputs = {name: read_array(path) for name, path in golden.inputs.items()}
        outputs = session.run(inputs)
    for name, path in golden.outputs.items():
        expected = read_array(path)
        assert np.asarray(outputs[name]).dtype == expected.dtype
        assert np.asarray(outputs[name]).tobytes() == expected.tobytes()


def test_a_card_boots_to_a_running_service_and_after_power_cuts_too(
    board: CardBoard, bundle: Path
) -> None:
    for seed, moment in enumerate(("starts the service", '"layers_equal"', "serving at")):
        board.start()
        board.wait_until(moment, lambda moment=moment: moment in board.serial)
        board.kill(seed)
    board.start()
    assert_answers(board, bundle)


def test_every_state_that_a_cut_in_the_first_boot_leaves_is_whole(
    board: CardBoard, bundle: Path, tmp_path: Path
) -> None:
    board.start()
    assert_answers(board, bundle)
    board.switch_off()
    rows = [row.split() for row in run_script("partitions.sh", [board.card.path]).splitlines()]
    (start,) = (int(row[1]) for row in rows if row[3] == "ext4")
    writes = [
        replace(write, offset=write.offset - start) if write.content else write
        for write in read_log(board.card.log)
    ]
    # The boot partition is never written to.
    assert all(write.offset >= 0 for write in writes)
    before = board.card.before.read_bytes()[start:]
    random_ = random.Random(0)
    seen = set()
    for end in sorted(random_.sample(range(len(writes) + 1), min(CUTS, len(writes)))):
        image = bytearray(before)
        apply_cut(image, writes[:end], random_.choice((0.0, 0.5, 1.0)), random_)
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            disk = Path(folder) / "data"
            disk.write_bytes(image)
            recover(disk)
            extract(disk, "/edgekit", Path(folder))
            root = Path(folder) / "edgekit"
            done = subprocess.run(
                [find_board_program(), root, "status"], capture_output=True, check=False
            )
            assert done.returncode == 0, done.stderr
            assert read_bundle(root / "slots/a").files == read_bundle(bundle).files
            seen.add((root / "state").read_bytes())
    # Nothing installed, on trial, started, confirmed.
    assert len(seen) >= 2
