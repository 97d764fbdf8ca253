"""Locks files so that only who has a secret key can read them, in the format age-encryption.org/v1.

Any `age` (github.com/FiloSottile/age) reads and writes the same files and keys. Locking needs the package
`cryptography` (extra `sign`); opening is edgekit's own (csrc/trust/age.cc), since a board does it.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence

from edgekit import _native
from edgekit.targets.errors import EdgekitError, ToolError

_VERSION = b"age-encryption.org/v1\n"
_INFO = b"age-encryption.org/v1/X25519"
_CHUNK = 65536


def make_identity() -> str:
    """Returns a new secret key, AGE-SECRET-KEY-1..., to be kept in a file."""
    return _native.format_age_identity(secrets.token_bytes(32))


def lock(content: bytes, recipients: Sequence[str]) -> bytes:
    """Returns `content` locked for each of `recipients`, public keys age1...; two calls give other bytes.

    Raises:
        EdgekitError: One is no public key, or there is none.
        ToolError: The package `cryptography` is missing.
    """
    points = [_native.parse_age_recipient(text) for text in recipients]
    if not points:
        raise EdgekitError("locked for whom? Give at least one public key, age1...")
    modules = _import()
    file_key = secrets.token_bytes(16)
    header = _VERSION + b"".join(_wrap(modules, file_key, point) for point in points) + b"---"
    mac = modules.hmac(modules.derive(file_key, b"", b"header"), header)
    salt = secrets.token_bytes(16)
    cipher = modules.cipher(modules.derive(file_key, salt, b"payload"))
    parts = [header + b" " + _encode(mac) + b"\n" + salt]
    for number in range(max(1, -(-len(content) // _CHUNK))):
        chunk = content[number * _CHUNK : (number + 1) * _CHUNK]
        last = (number + 1) * _CHUNK >= len(content)
        parts.append(cipher.encrypt(number.to_bytes(11, "big") + bytes([last]), chunk, None))
    return b"".join(parts)


class _Modules:
    """What is used of `cryptography`."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives import hashes, hmac
        from cryptography.hazmat.primitives.asymmetric import x25519
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        self.x25519 = x25519
        self.cipher = ChaCha20Poly1305
        self._hkdf, self._hashes, self._hmac = HKDF, hashes, hmac

    def derive(self, secret: bytes, salt: bytes, info: bytes) -> bytes:
        """HKDF-SHA-256, 32 bytes."""
        function = self._hkdf(self._hashes.SHA256(), length=32, salt=salt, info=info)
        return bytes(function.derive(secret))

    def hmac(self, key: bytes, message: bytes) -> bytes:
        """HMAC-SHA-256."""
        mac = self._hmac.HMAC(key, self._hashes.SHA256())
        mac.update(message)
        return bytes(mac.finalize())


def _import() -> _Modules:
    try:
        return _Modules()
    except ImportError as error:
        raise ToolError(
            "locking needs the package cryptography: pip install 'edgekit[sign]'"
        ) from error


def _wrap(modules: _Modules, file_key: bytes, point: bytes) -> bytes:
    """Returns the stanza that gives the file key to the owner of `point`."""
    ephemeral = modules.x25519.X25519PrivateKey.generate()
    share = ephemeral.public_key().public_bytes_raw()
    try:
        shared = ephemeral.exchange(modules.x25519.X25519PublicKey.from_public_bytes(point))
    except ValueError as error:
        raise EdgekitError("a public key of small order, which locks nothing") from error
    key = modules.derive(shared, share + point, _INFO)
    sealed = modules.cipher(key).encrypt(bytes(12), file_key, None)
    return b"-> X25519 " + _encode(share) + b"\n" + _encode(sealed) + b"\n"


def _encode(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")
