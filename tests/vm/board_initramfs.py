"""Kernel and initramfs of an emulated 64-bit Arm board: Debian's kernel, busybox and dropbear, ssh and nothing else.

Made once under ``build/vm`` by the digest of the packages' versions and of what makes it; without the network, what was
made before is used.
"""

import fcntl
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from debian_packages import AptRoot, unpack

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / "build/vm"
KERNEL = "linux-image-arm64"
PACKAGES = (
    "busybox-static",
    "dropbear-bin",
    "libc6",
    "libcrypt1",
    "libgcc-s1",
    "libgmp10",
    "libtomcrypt1",
    "libtommath1",
    "zlib1g",
)
# With what they depend on.
MODULES = ("virtio_mmio", "virtio_net", "virtio_blk", "virtio_rng", "crc32c_generic", "ext4")
NEEDED = ("bin/busybox", "usr/sbin/dropbear")


@dataclass(frozen=True)
class BootFiles:
    """What qemu boots.

    Attributes:
        kernel: The kernel's image.
        initramfs: A cpio archive, to which others can be appended.
    """

    kernel: Path
    initramfs: Path


def make_boot_files() -> BootFiles:
    """Returns kernel and initramfs, which are made where they are missing.

    Raises:
        PackagesError: They are missing, and packages can't be had.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        listed = CACHE / f"packages-{_digest([*PACKAGES, KERNEL])}.txt"
        names = listed.read_text().split() if listed.is_file() else []
        archives = [CACHE / "apt/archives" / name for name in names]
        if not archives or not all(archive.is_file() for archive in archives):
            apt = AptRoot(CACHE / "apt")
            apt.update()
            archives = apt.download([apt.find_dependency(KERNEL, "linux-image-"), *PACKAGES])
            listed.write_text("".join(f"{archive.name}\n" for archive in archives))
        recipe = [Path(__file__).read_text(), (HERE / "init").read_text()]
        folder = CACHE / _digest([*(archive.name for archive in archives), *recipe])
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=CACHE) as work:
                made = Path(work) / "boot"
                _build(archives, Path(work), made)
                made.rename(folder)
    return BootFiles(folder / "kernel", folder / "initramfs")


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _build(archives: list[Path], work: Path, made: Path) -> None:
    """Writes kernel and initramfs into the folder `made`."""
    kernel, tree = work / "kernel", work / "tree"
    for archive in archives:
        unpack(archive, kernel if archive.name.startswith("linux-image") else tree)
    for name in NEEDED:
        assert (tree / name).is_file(), name
    for unwanted in ("usr/share", "usr/lib/aarch64-linux-gnu/gconv", "etc/init.d"):
        shutil.rmtree(tree / unwanted, ignore_errors=True)
    (tree / "modules").mkdir()
    order = list(_order_modules(kernel / "lib/modules"))
    for module in order:
        shutil.copy(module, tree / "modules")
    (tree / "modules/order").write_text("".join(f"{module.name}\n" for module in order))
    shutil.copy(HERE / "init", tree / "init")
    (tree / "etc").mkdir(exist_ok=True)
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\n")
    made.mkdir()
    (image,) = (kernel / "boot").glob("vmlinuz-*")
    shutil.copy(image, made / "kernel")
    (made / "initramfs").write_bytes(write_cpio(tree))


def _order_modules(folder: Path) -> Iterator[Path]:
    """Yields the files of the wanted modules, each after those that it depends on."""
    files = {path.stem.replace("-", "_"): path for path in folder.rglob("*.ko")}
    done: set[str] = set()

    def visit(name: str) -> Iterator[Path]:
        # One that is missing is a part of this kernel.
        if name in done or name not in files:
            return
        done.add(name)
        found = re.search(rb"\0depends=([^\0]*)\0", files[name].read_bytes())
        for needed in found[1].decode().split(",") if found else ():
            yield from visit(needed.replace("-", "_"))
        yield files[name]

    for name in MODULES:
        yield from visit(name)


def write_cpio(tree: Path) -> bytes:
    """Returns a folder as an archive in the kernel's format ("newc"), all of it root's.

    The format is that of the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
    """
    parts: list[bytes] = []
    paths = sorted(tree.rglob("*"))
    for number, path in enumerate(paths, 1):
        mode = path.lstat().st_mode
        parts.append(_write_entry(str(path.relative_to(tree)), number, mode, _read(path, mode)))
    parts.append(_write_entry("TRAILER!!!", 0, 0, b""))
    return b"".join(parts)


def _read(path: Path, mode: int) -> bytes:
    if stat.S_ISLNK(mode):
        return os.readlink(path).encode()
    return path.read_bytes() if stat.S_ISREG(mode) else b""


def _write_entry(name: str, number: int, mode: int, content: bytes) -> bytes:
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (number, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
