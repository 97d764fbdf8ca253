"""A bundle as one file, `.edgekit`: a POSIX tar archive (ustar, IEEE 1003.1) of which there is one for each bundle.

    manifest.json
    manifest.json.minisig   where it was signed
    all other files         sorted by path
    1024 zero bytes

There are no folders, owners, times, links or extensions in it, programs have mode 755 and all else 644. So the same
bundle gives the same bytes, `tar -xf` takes them, and a reader knows each header before it comes: one that is not, byte
for byte, what the manifest asks for next is refused, and so is a file that is shorter or longer than the manifest says,
before anything is written. Manifest and signature come first, for whoever reads a stream.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from edgekit.building.programs import PROGRAMS
from edgekit.bundles.manifest import (
    MANIFEST,
    MOST_MANIFEST,
    SIGNATURE,
    check_name,
    check_signature,
    read_manifest,
)
from edgekit.bundles.minisign import PublicKey
from edgekit.converters.full_disk import name_full_disk
from edgekit.targets.errors import EdgekitError, PlanError

SUFFIX = ".edgekit"
BLOCK = 512
END = bytes(2 * BLOCK)
# ustar's size has eleven octal digits, its path a prefix and a name.
_MOST_SIZE = 8**11 - 1
_NAME, _PREFIX = 100, 155
_CHUNK = 1 << 20


def is_bundle_file(path: Path) -> bool:
    """Returns whether `path` is a bundle as one file, by its first bytes or, where it is damaged, by its name."""
    return path.is_file() and (path.suffix.lower() == SUFFIX or begins_as_bundle(path))


def begins_as_bundle(path: Path) -> bool:
    """Returns whether the first member of a file is a bundle's."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        block = file.read(BLOCK)
    return block.startswith(MANIFEST.encode() + b"\0") and block[257:262] == b"ustar"


@contextmanager
def unpacked(path: Path, *, key: PublicKey | None = None) -> Iterator[Path]:
    """Yields the folder of a bundle: `path` itself, or for a bundle's file one that is there until the block ends.

    What the folder holds was not checked where `path` is one.

    Raises:
        SignatureError: The file is not signed by `key`.
        PlanError: The file is damaged, or was not written by `pack_bundle`.
    """
    if not is_bundle_file(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="edgekit-bundle-") as name:
        folder = Path(name) / "bundle"
        folder.mkdir()
        with name_full_disk(name, f"{path} is unpacked there; free some space, or set TMPDIR"):
            unpack(path, folder, key)
        try:
            yield folder
        except EdgekitError as error:
            # Nobody knows the folder, and it will be gone.
            error.args = tuple(
                part.replace(str(folder), str(path)) if isinstance(part, str) else part
                for part in error.args
            )
            raise


def unpack(path: Path, folder: Path, key: PublicKey | None = None) -> None:
    """Writes the files of the bundle in `path` into `folder`, which is empty.

    Raises:
        SignatureError: It is not signed by `key`.
        PlanError: The file is damaged, or was not written by `pack_bundle`.
    """
    with path.open("rb") as stream:
        reader = _Reader(path, stream)
        manifest = reader.read_known(MANIFEST)
        assert manifest is not None
        signature = reader.read_known(SIGNATURE, may_miss=True)
        if key is not None:
            check_signature(path, manifest, signature, key)
        files = read_manifest(path, content=manifest)["files"]
        reader.check_size(files)
        (folder / MANIFEST).write_bytes(manifest)
        if signature is not None:
            (folder / SIGNATURE).write_bytes(signature)
        for name in sorted(files):
            reader.write_next(folder, name, files[name])
        if reader.read(len(END)) != END or stream.read(1):
            raise PlanError(f"{path}: more in it than its manifest says")


class _Reader:
    """Reads members that are known before they come.

    Args:
        path: What errors name.
        stream: The archive from its beginning on.
    """

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self._path = path
        self._stream = stream
        self._header = b""
        self._offset = 0

    def read(self, size: int) -> bytes:
        """Returns the next `size` bytes.

        Raises:
            PlanError: The file ends before.
        """
        kept, self._header = self._header, b""
        content = kept + self._stream.read(size - len(kept))
        if len(content) < size:
            raise PlanError(f"{self._path}: cut off: it ends within a bundle")
        self._offset += size
        return content

    def read_known(self, name: str, *, may_miss: bool = False) -> bytes | None:
        """Returns a member that no manifest describes yet, None where another one comes and it may be missing.

        Raises:
            PlanError: It does not come, or is longer than such a member can be.
        """
        header = self.read(BLOCK)
        size = _parse_size(header)
        if size is None or header != make_header(name, size):
            if not may_miss:
                raise PlanError(f"{self._path}: no bundle's file: it does not begin with {name}")
            self._header, self._offset = header, self._offset - BLOCK
            return None
        if size > MOST_MANIFEST:
            raise PlanError(f"{self._path}: {name} is longer than {MOST_MANIFEST} bytes")
        content = self.read(size)
        self._skip_padding(size, name)
        return content

    def check_size(self, files: Mapping[str, Any]) -> None:
        """Checks that the rest is as long as the manifest says, before any of it is written.

        Raises:
            PlanError: It is not.
        """
        wanted = self._offset + len(END)
        for name, facts in files.items():
            check_name(self._path, name)
            wanted += BLOCK + facts["size"] + len(pad(facts["size"]))
        size = os.fstat(self._stream.fileno()).st_size
        if size != wanted:
            how = "cut off" if size < wanted else "more in it than its manifest says"
            raise PlanError(f"{self._path}: {how}: {size} bytes where {wanted} belong")

    def write_next(self, folder: Path, name: str, facts: Mapping[str, Any]) -> None:
        """Writes the next member into `folder`.

        Raises:
            PlanError: Another member comes, or its bytes are not those of the manifest.
        """
        if self.read(BLOCK) != make_header(name, facts["size"]):
            raise PlanError(f"{self._path}: something else lies in it where {name} belongs")
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _mode(name))
        with os.fdopen(descriptor, "wb") as target:
            copy_checked(self._stream, target, facts, f"{self._path}: {name}")
        os.chmod(file, _mode(name))
        self._offset += facts["size"]
        self._skip_padding(facts["size"], name)

    def _skip_padding(self, size: int, name: str) -> None:
        if any(self.read(len(pad(size)))):
            raise PlanError(f"{self._path}: {name} is followed by something that is not listed")


def copy_checked(source: BinaryIO, target: BinaryIO, facts: Mapping[str, Any], what: str) -> None:
    """Copies a file's bytes, of which the manifest says size and digest.

    Raises:
        PlanError: They are others; names `what`.
    """
    digest = hashlib.sha256()
    left = facts["size"]
    while left:
        content = source.read(min(left, _CHUNK))
        if not content:
            raise PlanError(f"{what}: cut off")
        digest.update(content)
        target.write(content)
        left -= len(content)
    if digest.hexdigest() != facts["sha256"]:
        raise PlanError(f"{what}: changed: its SHA-256 differs from {MANIFEST}")


def _mode(name: str) -> int:
    return 0o755 if name in PROGRAMS else 0o644


def pad(size: int) -> bytes:
    """Returns what fills a member up to whole blocks."""
    return bytes(-size % BLOCK)


def make_header(name: str, size: int) -> bytes:
    """Returns ustar's header of a regular file.

    Raises:
        PlanError: ustar cannot hold the path or the size.
    """
    prefix, rest = _split(name)
    if size > _MOST_SIZE:
        raise PlanError(f"{name}: {size} bytes, and a bundle's file holds at most {_MOST_SIZE}")
    fields = (
        rest.ljust(_NAME, b"\0"),
        b"%07o\0" % _mode(name),
        b"%07o\0" % 0,  # User and group.
        b"%07o\0" % 0,
        b"%011o\0" % size,
        b"%011o\0" % 0,  # Time.
        b" " * 8,  # Stands for the sum of all bytes while that is taken.
        b"0",
        bytes(100),
        b"ustar\0" + b"00",
        bytes(64 + 16),  # Names of user and group, device.
        prefix.ljust(_PREFIX, b"\0"),
        bytes(12),
    )
    header = b"".join(fields)
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


def _parse_size(header: bytes) -> int | None:
    """Returns the size that a header gives, None where it is not eleven octal digits."""
    digits = header[124:135]
    return int(digits, 8) if all(0x30 <= digit < 0x38 for digit in digits) else None


def _split(name: str) -> tuple[bytes, bytes]:
    """Returns a path as ustar's prefix and name: the name alone where it fits, else the longest prefix that does."""
    path = name.encode()
    if len(path) <= _NAME:
        return b"", path
    at = path.rfind(b"/", 0, _PREFIX + 1)
    if at < 1 or len(path) - at - 1 > _NAME:
        raise PlanError(f"{name}: too long a path for a bundle's file")
    return path[:at], path[at + 1 :]
