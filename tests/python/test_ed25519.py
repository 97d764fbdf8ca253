"""The native check of Ed25519 signatures, against RFC 8032 and OpenSSL's."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import EdgekitError
from edgekit._native import verify_ed25519

PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493

# RFC 8032, 7.1: secret key, public key, message, signature of tests 1, 2, 3 and SHA(abc).
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        hashlib.sha512(b"abc").hexdigest(),
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e030"
        "3dca179c138ac17ad9bef1177331a704",
    ),
]
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_the_rfc_s_signatures_are_accepted(
    secret: str, public: str, message: str, signature: str
) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))
    assert key.sign(bytes.fromhex(message)).hex() == signature
    assert verify_ed25519(*map(bytes.fromhex, (public, message, signature)))


@settings(deadline=None)
@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=400))
def test_what_openssl_signs_is_accepted(seed: bytes, message: bytes) -> None:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert verify_ed25519(public, message, key.sign(message))


# The sizes around the padding of SHA-512's blocks, with the 64 bytes of R and key before them.
@pytest.mark.parametrize("size", [0, 46, 47, 48, 63, 64, 65, 175, 176, 191, 192, 1000])
def test_messages_of_every_padding_are_hashed_right(size: int) -> None:
    message = bytes(range(256)) * 4
    assert verify_ed25519(PUBLIC, message[:size], KEY.sign(message[:size]))


def flip(value: bytes, bit: int) -> bytes:
    """Returns `value` with one bit changed."""
    changed = bytearray(value)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_a_changed_bit_anywhere_is_refused() -> None:
    message, signature = b"model", KEY.sign(b"model")
    assert verify_ed25519(PUBLIC, message, signature)
    assert not any(verify_ed25519(flip(PUBLIC, bit), message, signature) for bit in range(256))
    assert not any(verify_ed25519(PUBLIC, flip(message, bit), signature) for bit in range(40))
    assert not any(verify_ed25519(PUBLIC, message, flip(signature, bit)) for bit in range(512))


@settings(deadline=None)
@given(
    public=st.binary(min_size=32, max_size=32),
    message=st.binary(max_size=8),
    signature=st.binary(min_size=64, max_size=64),
)
def test_noise_is_refused(public: bytes, message: bytes, signature: bytes) -> None:
    assert not verify_ed25519(public, message, signature)


def test_a_signature_has_one_form() -> None:
    signature = KEY.sign(b"model")
    number = int.from_bytes(signature[32:], "little") + ORDER
    assert number < 2**256
    assert not verify_ed25519(PUBLIC, b"model", signature[:32] + number.to_bytes(32, "little"))


# Points of order 1, 2 and 4, and encodings of them that are not the least: with such a key R = the
# neutral element and S = 0 would fit every message (order 1), or one in two or four.
SMALL = [
    number.to_bytes(32, "little")
    for number in (1, PRIME - 1, 0, 2**255, PRIME, PRIME + 1, 2**255 + 1)
]


@pytest.mark.parametrize("public", SMALL)
def test_keys_of_small_order_are_refused(public: bytes) -> None:
    neutral = (1).to_bytes(32, "little")
    assert not any(
        verify_ed25519(public, bytes([message]), neutral + bytes(32)) for message in range(8)
    )


def test_sizes_are_checked() -> None:
    with pytest.raises(EdgekitError, match="public_key has 31 bytes, not 32"):
        verify_ed25519(bytes(31), b"", bytes(64))
    with pytest.raises(EdgekitError, match="signature has 65 bytes, not 64"):
        verify_ed25519(bytes(32), b"", bytes(65))
