"""Emulated boards for tests: kernel and initramfs made once, a session's keys, and boards that come up side by side."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from board_initramfs import BootFiles, make_boot_files
from debian_packages import PackagesError
from emulated_board import EmulatedBoard, Keys, MakeBoard, make_keys

# Programs that Debian puts where only root looks.
SYSTEM = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
TOOLS = {
    "qemu-system-aarch64": "qemu-system-arm",
    "dropbearkey": "dropbear-bin",
    "mkfs.ext4": "e2fsprogs",
    "ssh": "openssh-client",
}


@pytest.fixture(scope="session")
def boot_files() -> BootFiles:
    """What boards boot; without the tools or packages for it, the test is left out."""
    os.environ["PATH"] = SYSTEM
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} (Debian: {package})")
    try:
        return make_boot_files()
    except PackagesError as error:
        pytest.skip(f"no packages to make a board of: {error}")


@pytest.fixture(scope="session")
def board_keys(boot_files: BootFiles, tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """The session's keys; edgekit's own commands get in with them too, by EDGEKIT_SSH_OPTIONS."""
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def make_board(
    boot_files: BootFiles, board_keys: Keys, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeBoard]:
    """Makes boards, which are switched off after the file's last test."""
    boards: list[EmulatedBoard] = []

    def make(cpu: str, **options: object) -> EmulatedBoard:
        folder = tmp_path_factory.mktemp(cpu)
        boards.append(EmulatedBoard(cpu, folder, boot_files, board_keys, **options))
        return boards[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_SSH_OPTIONS", " ".join(board_keys.options))
        yield make
    for board in boards:
        board.switch_off()


@pytest.fixture(scope="module")
def disk_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a file's disks lie."""
    return tmp_path_factory.mktemp("disks")
