"""Keys and signatures in the formats of minisign (jedisct1.github.io/minisign): its files are ours, and ours are its.

    public key      a comment, then base64 of: "Ed", key id (8), public key (32)
    signature       a comment, then base64 of: "Ed" or "ED", key id (8), signature (64)
                    "trusted comment: " and a text, then base64 of the signature (64) of signature and text
    secret key      a comment, then base64 of: "Ed", "Sc" or zeros (2), "B2", salt (32), two limits (8, 8),
                    key id (8), seed and public key (64), BLAKE2b (32) of algorithm, id, seed and key

"Ed" signs the message itself, "ED" its BLAKE2b-512. What is behind the limits of a secret key is mixed with a stream
that scrypt makes of a password; without one, zeros stand for "Sc", for salt and limits and for the BLAKE2b. Checking
needs nothing but edgekit; making keys and signing need the extra `sign`.
"""

import base64
import binascii
import hashlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit._native import verify_ed25519
from edgekit.targets.errors import SignatureError, ToolError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_TRUSTED = "trusted comment: "
# libsodium's "sensitive" limits, which minisign writes: scrypt with N = 2^20, r = 8, p = 1 takes 1 GiB.
_OPERATIONS, _MEMORY = 1 << 25, 1 << 30
_BLOCK = 8
# No file of ours or minisign's asks for more; one that does would only exhaust whoever reads it.
_MOST_MEMORY = 1 << 30
_MOST_OPERATIONS = 1 << 25
_LONGEST_FILE = 65536


@dataclass(frozen=True)
class PublicKey:
    """Who may sign.

    Attributes:
        key_id: 8 bytes that tell keys apart; they prove nothing.
        raw: 32 bytes, Ed25519.
    """

    key_id: bytes
    raw: bytes

    @property
    def name(self) -> str:
        """The id as minisign prints it."""
        return _name(self.key_id)

    def to_text(self) -> str:
        """Returns the public key's file."""
        row = base64.b64encode(b"Ed" + self.key_id + self.raw).decode()
        return f"untrusted comment: minisign public key {self.name}\n{row}\n"


@dataclass(frozen=True)
class SecretKey:
    """What signs; printing it shows no secret.

    Attributes:
        key_id: Of the public key as well.
        seed: 32 bytes, from which RFC 8032 derives the rest.
    """

    key_id: bytes
    seed: bytes = field(repr=False)

    @property
    def public(self) -> PublicKey:
        """The key that checks what this one signs."""
        return PublicKey(self.key_id, _load(self.seed).public_key().public_bytes_raw())

    def to_text(self, password: str | None) -> str:
        """Returns the secret key's file, locked with `password` unless it is None."""
        public = self.public
        body = self.key_id + self.seed + public.raw
        if password is None:
            row = b"Ed" + bytes(2) + b"B2" + bytes(32 + 8 + 8) + body + bytes(32)
        else:
            salt = secrets.token_bytes(32)
            limits = _OPERATIONS.to_bytes(8, "little") + _MEMORY.to_bytes(8, "little")
            body = _mix(body + _sum(body), password, salt, _OPERATIONS, _MEMORY)
            row = b"EdScB2" + salt + limits + body
        text = base64.b64encode(row).decode()
        return f"untrusted comment: minisign secret key {public.name}\n{text}\n"


@dataclass(frozen=True)
class Signature:
    """A message's signature.

    Attributes:
        prehashed: Whether the BLAKE2b-512 of the message was signed in its place.
        key_id: Of the key that signed, as the file says.
        raw: 64 bytes, of the message.
        comment: The trusted comment: signed as well.
        comment_signature: 64 bytes, of `raw` and the comment.
    """

    prehashed: bool
    key_id: bytes
    raw: bytes
    comment: str
    comment_signature: bytes

    def to_text(self) -> str:
        """Returns the signature's file."""
        row = base64.b64encode((b"ED" if self.prehashed else b"Ed") + self.key_id + self.raw)
        last = base64.b64encode(self.comment_signature)
        return (
            f"untrusted comment: signature by key {_name(self.key_id)}\n{row.decode()}\n"
            f"{_TRUSTED}{self.comment}\n{last.decode()}\n"
        )


def make_key() -> SecretKey:
    """Makes a key of the system's randomness."""
    return SecretKey(secrets.token_bytes(8), secrets.token_bytes(32))


def sign(message: bytes, key: SecretKey, comment: str) -> Signature:
    """Signs a message. The same message, key and comment give the same bytes.

    Args:
        message: What is signed, as it is.
        key: Who signs.
        comment: One line that is signed as well.

    Raises:
        ToolError: The package `cryptography` is missing.
        ValueError: The comment has more than one line.
    """
    if not comment.isprintable():
        raise ValueError("a trusted comment is one line of printable characters")
    private = _load(key.seed)
    raw = private.sign(message)
    return Signature(False, key.key_id, raw, comment, private.sign(raw + comment.encode()))


def check(message: bytes, signature: Signature, key: PublicKey) -> None:
    """Checks a signature.

    Raises:
        SignatureError: Another key signed, or the message or the comment is not what was signed.
    """
    if signature.key_id != key.key_id:
        raise SignatureError(
            f"signed by the key {_name(signature.key_id)}, not by {key.name}, which was expected"
        )
    signed = hashlib.blake2b(message).digest() if signature.prehashed else message
    if not verify_ed25519(key.raw, signed, signature.raw):
        raise SignatureError(
            f"the signature does not fit: this is not what the key {key.name} signed"
        )
    whole = signature.raw + signature.comment.encode()
    if not verify_ed25519(key.raw, whole, signature.comment_signature):
        raise SignatureError("the trusted comment is not the one that was signed")


def read_public_key(path: Path) -> PublicKey:
    """Reads a public key's file.

    Raises:
        SignatureError: It is none.
    """
    lines = _read_lines(path)
    if len(lines) != 2:
        raise SignatureError(f"{path}: no public key: minisign's have two lines")
    raw = _decode(path, lines[1], 42)
    if raw[:2] != b"Ed":
        raise SignatureError(f"{path}: no public key of Ed25519")
    return PublicKey(raw[2:10], raw[10:])


def read_signature(path: Path) -> Signature:
    """Reads a signature's file; whether it fits, `check` says.

    Raises:
        SignatureError: It is none.
    """
    return parse_signature(path, _read_file(path))


def parse_signature(path: Path, content: bytes) -> Signature:
    """Returns what a signature's file holds; whether it fits, `check` says.

    Raises:
        SignatureError: It is none; names `path`.
    """
    lines = _split_lines(path, content)
    if len(lines) != 4 or not lines[2].startswith(_TRUSTED):
        raise SignatureError(f"{path}: no signature: minisign's have four lines")
    raw = _decode(path, lines[1], 74)
    if raw[:2] not in (b"Ed", b"ED"):
        raise SignatureError(f"{path}: no signature of Ed25519")
    comment = lines[2].removeprefix(_TRUSTED)
    return Signature(raw[:2] == b"ED", raw[2:10], raw[10:], comment, _decode(path, lines[3], 64))


def is_locked(path: Path) -> bool:
    """Returns whether a secret key's file needs a password.

    Raises:
        SignatureError: It is none.
    """
    return _read_secret(path)[2:4] == b"Sc"


def read_secret_key(path: Path, password: str | None = None) -> SecretKey:
    """Reads a secret key's file.

    Args:
        path: The file.
        password: What unlocks it, where `is_locked` says so.

    Raises:
        SignatureError: It is none, asks for more memory than minisign's ever do, or the password is wrong.
    """
    raw = _read_secret(path)
    body = raw[54:]
    if raw[2:4] == b"Sc":
        if password is None:
            raise SignatureError(f"{path}: locked with a password, and none was given")
        operations, memory = (int.from_bytes(raw[at : at + 8], "little") for at in (38, 46))
        if memory > _MOST_MEMORY or operations > _MOST_OPERATIONS:
            raise SignatureError(f"{path}: asks for more work than minisign's own keys do")
        body = _mix(body, password, raw[6:38], operations, memory)
        if _sum(body[:72]) != body[72:]:
            raise SignatureError(f"{path}: wrong password, or damaged")
    key_id, seed, public = body[:8], body[8:40], body[40:72]
    key = SecretKey(key_id, seed)
    if key.public.raw != public:
        raise SignatureError(f"{path}: damaged: seed and public key are not of one key")
    return key


def write_key_files(key: SecretKey, secret: Path, public: Path, password: str | None) -> None:
    """Writes both files of a key; the secret one is its owner's alone to read.

    Raises:
        SignatureError: One of them exists: a key is never overwritten.
    """
    for path in (secret, public):
        if path.exists() or path.is_symlink():
            raise SignatureError(f"{path}: exists, and a key is never overwritten")
    text = key.to_text(password)
    descriptor = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
    public.write_text(key.public.to_text(), encoding="ascii")


def _name(key_id: bytes) -> str:
    return f"{int.from_bytes(key_id, 'little'):016X}"


def _load(seed: bytes) -> "Ed25519PrivateKey":
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise ToolError(
            "making keys and signing need the package cryptography: `pip install 'edgekit[sign]'`"
        ) from error
    return Ed25519PrivateKey.from_private_bytes(seed)


def _sum(body: bytes) -> bytes:
    return hashlib.blake2b(b"Ed" + body, digest_size=32).digest()


def _mix(body: bytes, password: str, salt: bytes, operations: int, memory: int) -> bytes:
    """Locks or unlocks `body`, with libsodium's choice of scrypt's numbers for the limits (pickparams())."""
    operations = max(operations, 32768)
    if operations < memory // 32:
        most, parallel = operations // (_BLOCK * 4), 1
    else:
        most, parallel = memory // (_BLOCK * 128), 0
    # The least power of two above half of `most`.
    log = max((most // 2).bit_length(), 1)
    if not parallel:
        parallel = max((operations // 4 >> log) // _BLOCK, 1)
    stream = hashlib.scrypt(
        password.encode(),
        salt=salt,
        n=1 << log,
        r=_BLOCK,
        p=parallel,
        maxmem=_MOST_MEMORY + (1 << 24),
        dklen=len(body),
    )
    return bytes(a ^ b for a, b in zip(body, stream, strict=True))


def _read_secret(path: Path) -> bytes:
    lines = _read_lines(path)
    if len(lines) != 2:
        raise SignatureError(f"{path}: no secret key: minisign's have two lines")
    raw = _decode(path, lines[1], 158)
    if raw[:2] != b"Ed" or raw[2:4] not in (b"Sc", bytes(2)) or raw[4:6] != b"B2":
        raise SignatureError(f"{path}: no secret key of Ed25519 in minisign's format")
    return raw


def _read_lines(path: Path) -> list[str]:
    return _split_lines(path, _read_file(path))


def _read_file(path: Path) -> bytes:
    """Returns a file's bytes, of one that is too long no more than show it."""
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST_FILE + 1)
    except FileNotFoundError as error:
        raise SignatureError(f"{path}: no such file") from error
    except OSError as error:
        raise SignatureError(f"{path}: cannot be read: {error}") from error


def _split_lines(path: Path, content: bytes) -> list[str]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SignatureError(f"{path}: cannot be read: {error}") from error
    if len(content) > _LONGEST_FILE:
        raise SignatureError(f"{path}: too long for a key or a signature")
    # Not splitlines(): a comment may hold what Unicode takes for the end of a line.
    return text.removesuffix("\n").replace("\r\n", "\n").split("\n")


def _decode(path: Path, row: str, size: int) -> bytes:
    try:
        raw = base64.b64decode(row, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureError(f"{path}: not base64: {error}") from error
    if len(raw) != size:
        raise SignatureError(f"{path}: {len(raw)} bytes where {size} belong")
    if base64.b64encode(raw).decode() != row:
        raise SignatureError(f"{path}: not base64: bits that stand for nothing are set")
    return raw
