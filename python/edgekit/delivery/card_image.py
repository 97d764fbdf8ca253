"""Images for SD cards: a bundle in a device's root folder, in an image that boots or in one made for it.

The device checks the bundle and switches to it when its service first starts: what is on the card computed nothing yet.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.bundles.bundle import Bundle, read_bundle
from edgekit.bundles.minisign import read_public_key
from edgekit.delivery.flash_script import SCRIPTS, find_board_program, run_script
from edgekit.delivery.service_files import write_service_tree
from edgekit.targets.errors import EdgekitError, TargetError
from edgekit.targets.profile import load_profile


@dataclass(frozen=True)
class OwnSystem:
    """A card that runs nothing but the model: its kernel, and a busybox that starts the service.

    Attributes:
        kernel: The kernel's image, as the board's boot loader takes it.
        busybox: A static busybox of the board.
        modules: Kernel modules that the kernel lacks: of the card's controller, ext4 and the network.
        boot: More files of the boot partition: firmware, device trees.
        loaders: Boot loaders before the partitions, with the byte where each begins.
        append: Words for the kernel's command line.
    """

    kernel: Path
    busybox: Path
    modules: Path | None = None
    boot: Path | None = None
    loaders: tuple[tuple[Path, int], ...] = ()
    append: str = ""


@dataclass(frozen=True)
class CardImage:
    """An image that was written.

    Attributes:
        path: The image.
        block_map: Which of its blocks a card needs, for bmaptool and write_card.sh.
        release: Of the bundle in it.
        size: In bytes.
    """

    path: Path
    block_map: Path
    release: int
    size: int

    def __str__(self) -> str:
        return f"{self.path}: {self.size / 1e6:.0f} MB, release {self.release}"


def write_card_image(
    bundle: str | Path,
    output: str | Path,
    *,
    keys: Sequence[Path],
    base: Path | None = None,
    system: OwnSystem | None = None,
    listen: str | None = None,
    data_mib: int | None = None,
) -> CardImage:
    """Writes an image; the same inputs give the same bytes.

    Args:
        bundle: The bundle's folder, signed by one of `keys`.
        output: The image; what was there is replaced once the new one is whole.
        keys: Files of the public keys that may sign for the device.
        base: An image that boots, with systemd and an ext4 root file system (Raspberry Pi OS, Debian): a copy gets the
            bundle and its service.
        system: Of a card without another system. With neither, the image is one ext4 file system for /var/lib.
        listen: Where the model is served: ``unix:/path``, ``unix:@name`` or ``tcp:host:port``; by default at a socket
            of the device with `base`, and at ``tcp:*:7070`` with `system`.
        data_mib: Size of the data's file system, where it is not the base's.

    Raises:
        SignatureError: The bundle is not signed by one of the keys.
        PlanError: The bundle is damaged.
        ToolError: A program is missing; the message says how to get it.
        EdgekitError: The base holds no such file system or has no room, or what was given does not fit together.
    """
    if base is not None and system is not None:
        raise EdgekitError("a base boots by its own system: give one of them")
    if not keys:
        raise EdgekitError("an image needs the public key that may sign for its device (--key)")
    checked = read_bundle(Path(bundle))
    for key in keys:
        read_public_key(key)
    words: list[str | Path] = []
    with tempfile.TemporaryDirectory(prefix="edgekit-image-") as folder:
        root = Path(folder) / "root"
        stage_root(checked, root, keys)
        if base is not None:
            files = write_service_tree(checked.target, Path(folder) / "files", listen)
            words += ["--base", base, "--files", files]
        elif system is not None:
            words += _make_system(checked, system, listen, Path(folder))
        if data_mib is not None:
            words += ["--data-mib", str(data_mib)]
        image = Path(output)
        run_script("card_image.sh", ["--root", root, *words, image])
    return CardImage(
        image, image.with_name(image.name + ".bmap"), checked.release, image.stat().st_size
    )


def stage_root(bundle: Bundle, root: Path, keys: Sequence[Path]) -> None:
    """Makes a device's root folder with a bundle that waits in its first slot.

    Raises:
        EdgekitError: edgekit-board refuses the bundle.
        ToolError: This installation of edgekit has no edgekit-board.
    """
    words: list[str | Path] = ["--board", bundle.target.name, "--program", find_board_program()]
    for key in keys:
        words += ["--key", key]
    run_script("stage_root.sh", [*words, bundle.path, root])


def _make_system(
    bundle: Bundle, system: OwnSystem, listen: str | None, folder: Path
) -> list[str | Path]:
    """Makes the initramfs; returns card_image.sh's words."""
    initramfs = folder / "initramfs"
    words: list[str | Path] = ["--busybox", system.busybox]
    words += ["--service", SCRIPTS / "serve.sh"]
    words += [] if system.modules is None else ["--modules", system.modules]
    run_script("initramfs.sh", [*words, initramfs])
    words = ["--kernel", system.kernel, "--initramfs", initramfs, "--loader", _find_loader(bundle)]
    words += [] if system.boot is None else ["--boot", system.boot]
    append = [*([] if listen is None else [f"edgekit.serve={listen}"]), system.append]
    words += ["--append", " ".join(append).strip()] if any(append) else []
    for loader, offset in system.loaders:
        words += ["--raw", f"{loader}@{offset}"]
    return words


def _find_loader(bundle: Bundle) -> str:
    """Returns what reads the boot partition of a bundle's board."""
    try:
        return load_profile(bundle.target.name).flash.loader
    except TargetError:
        # A profile of the user's own, which the bundle only names.
        return "extlinux"
