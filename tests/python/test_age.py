import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import EdgekitError, PlanError, _native
from edgekit.bundles.age import lock, make_identity

CHUNK = 65536


# RFC 7748, 5.2 and 6.1.
@pytest.mark.parametrize(
    ("secret", "point", "product"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_curve25519(secret, point, product):
    found = _native.x25519(bytes.fromhex(secret), bytes.fromhex(point))
    assert found.hex() == product


def test_curve25519_a_thousand_times():
    """RFC 7748, 5.2: each product is the next secret, each secret the next point."""
    secret = point = bytes([9]) + bytes(31)
    for _ in range(1000):
        secret, point = _native.x25519(secret, point), secret
    assert secret.hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_curve25519_as_openssl_has_it(secret, other):
    keys = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.x25519")
    key = keys.X25519PrivateKey.from_private_bytes(secret)
    base = bytes([9]) + bytes(31)
    public = key.public_key().public_bytes_raw()
    assert _native.x25519(secret, base) == public
    try:
        wanted = key.exchange(keys.X25519PublicKey.from_public_bytes(other))
    except ValueError:  # OpenSSL refuses points of small order.
        wanted = bytes(32)
    assert _native.x25519(secret, other) == wanted


# The least and the largest encodings, and the points of small order.
@pytest.mark.parametrize(
    "value", [0, 1, 2**255 - 21, 2**255 - 20, 2**255 - 19, 2**255 - 18, 2**255 - 1]
)
def test_curve25519_at_the_borders_of_the_field(value):
    keys = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.x25519")
    secret = bytes(range(32))
    point = value.to_bytes(32, "little")
    try:
        wanted = keys.X25519PrivateKey.from_private_bytes(secret).exchange(
            keys.X25519PublicKey.from_public_bytes(point)
        )
    except ValueError:
        wanted = bytes(32)
    assert _native.x25519(secret, point) == wanted


def test_keys_are_those_of_age():
    """The example of age's own documentation of test vectors: Bech32 (BIP 173) both ways."""
    identity = make_identity()
    recipient = _native.age_recipient(f"# of a device\n{identity}\n")
    assert recipient.startswith("age1")
    assert len(_native.parse_age_recipient(recipient)) == 32
    assert _native.age_recipient(identity.lower()) == recipient
    tool = find_age("age-keygen")
    done = subprocess.run([tool, "-y"], input=identity, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == recipient


@pytest.mark.parametrize(
    "text",
    ["", "age1", "age1" + "q" * 58, "AGE-SECRET-KEY-1" + "Q" * 58, "# only a comment", "ä" * 74],
)
def test_what_is_no_key_is_refused(text):
    with pytest.raises(EdgekitError, match="no secret key of a device"):
        _native.age_recipient(text)
    with pytest.raises(EdgekitError, match="no public key of a device"):
        _native.parse_age_recipient(text)


def test_a_key_with_a_changed_letter_is_refused():
    identity = make_identity()
    for at in range(len(identity)):
        other = "q" if identity[at] != "Q" else "P"
        with pytest.raises(EdgekitError):
            _native.age_recipient(identity[:at] + other.upper() + identity[at + 1 :])
    with pytest.raises(EdgekitError):
        _native.age_recipient(f"{identity}\n{identity}")
    with pytest.raises(EdgekitError):
        _native.age_recipient(identity[:20] + identity[20:].lower())


SIZES = [0, 1, 15, 16, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 7]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_locked_opens(size):
    identity, other = make_identity(), make_identity()
    content = bytes(i * 7 & 255 for i in range(size))
    locked = lock(content, [_native.age_recipient(key) for key in (other, identity)])
    assert _native.open_age(locked, identity) == content
    assert _native.open_age(locked, other) == content
    with pytest.raises(PlanError, match="not locked for this key"):
        _native.open_age(locked, make_identity())


@pytest.mark.parametrize("size", SIZES)
def test_age_opens_it_and_it_opens_what_age_locked(size, tmp_path):
    tool = find_age("age")
    identity = make_identity()
    recipient = _native.age_recipient(identity)
    (tmp_path / "key").write_text(identity + "\n")
    content = bytes(i * 11 & 255 for i in range(size))
    done = subprocess.run(
        [tool, "-d", "-i", tmp_path / "key"],
        input=lock(content, [recipient]),
        capture_output=True,
        check=True,
    )
    assert done.stdout == content
    done = subprocess.run([tool, "-r", recipient], input=content, capture_output=True, check=True)
    assert _native.open_age(done.stdout, identity) == content


def test_damage_is_found_wherever_it_is():
    identity = make_identity()
    content = bytes(CHUNK + 100)
    locked = lock(content, [_native.age_recipient(identity)])
    header = locked.index(b"--- ") + 64
    places = [*range(header + 16), header + 16 + CHUNK, len(locked) - 1]
    for at in places:
        with pytest.raises(PlanError):
            _native.open_age(locked[:at] + bytes([locked[at] ^ 1]) + locked[at + 1 :], identity)
    for size in [
        0,
        5,
        header - 3,
        header + 7,
        header + 16,
        header + 16 + CHUNK + 16,
        len(locked) - 1,
    ]:
        with pytest.raises(PlanError):
            _native.open_age(locked[:size], identity)
    with pytest.raises(PlanError):
        _native.open_age(locked + b"x", identity)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data):
    with pytest.raises(PlanError):
        _native.open_age(b"age-encryption.org/v1\n" + data, make_identity())


def test_nobody_is_no_recipient():
    with pytest.raises(EdgekitError, match="locked for whom"):
        lock(b"", [])


def find_age(name):
    tool = shutil.which(name)
    if tool is None:
        pytest.skip(f"no {name} (Debian: age)")
    return tool
