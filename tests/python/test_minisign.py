"""Keys and signatures as minisign 0.11 writes and reads them."""

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import SignatureError
from edgekit.bundles.minisign import (
    SecretKey,
    check,
    is_locked,
    make_key,
    read_public_key,
    read_secret_key,
    read_signature,
    sign,
    write_key_files,
)

MESSAGE = b"hello\n"
# What minisign 0.11 wrote: a key without and one with the password "pw", and signatures of MESSAGE by the first, of its
# BLAKE2b and, asked for the former format, of itself.
OPEN_KEY = """\
untrusted comment: minisign encrypted secret key
RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAArtuu7fs59+frcfEZ5nqs/3O3iz5X4y63XaF7NXXAicm0AccaNC6d37XsBGyltYWjVNWB4ELwyqTxG3Mlh0klkzo5acVwgURLAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
"""
OPEN_PUBLIC = """\
untrusted comment: minisign public key E7F739FBEDAEDBAE
RWSu267t+zn357XsBGyltYWjVNWB4ELwyqTxG3Mlh0klkzo5acVwgURL
"""
LOCKED_KEY = """\
untrusted comment: minisign encrypted secret key
RWRTY0IyNjEel4r9NdWKD6nQ0XNZigx7wbzCP6830G2u89+qAj4AAAACAAAAAAAAAEAAAAAAE/1gHXi4tncRcdCCXCcvxAyM1IGeh4banxBSaLP6IxIe8oZRjfNjxkVdbbkALPhVCMpiAyEgCHOdOsZzDKp6OksnAf/9eGc1rv5wqAmXdKdrkkCJ3ka31AGxbAuIvplingk2nUNKarw=
"""
LOCKED_PUBLIC = """\
untrusted comment: minisign public key 799280DE0A61AF8B
RWSLr2EK3oCSeX48W7KIeBR33e+wdjtX9Rk4MkV9SEdUbTDNyriH8yFQ
"""
PREHASHED = """\
untrusted comment: signature from minisign secret key
RUSu267t+zn3561vD+vGUIia3tGDSIamNjRu8E+r2h6rmXYAj+1evPGeDftE+EPvmenVjxxRMKvn+gsFufl4uXaZ8YU9O1fNSgk=
trusted comment: tc x
3U5IF6a7PAEpY7KlGFRNj4FcxmhiyRhinnzc2TkTcXXSbznskhIYpOrkh1FV7DrOnPGAle+mT0/ms2Fi/FrKCg==
"""
PLAIN = """\
untrusted comment: signature from minisign secret key
RWSu267t+zn354PDFuxEGFzlaoxpTyCxhrVHKJS509CVJBKmzKwbl7c1vY6nFXkinfKqUyC5DDZZpKi716ol3AIfnjvwBf0n5w4=
trusted comment: timestamp:1795364035	file:m
ugu0MD3Oli4F5CdyM2m1hIXfZuIaX4BNepjXFLKA+Z4WkL2zKXddYXNcbfQuQdXFnkr1/d3yxepc97HiHB49AQ==
"""
KEY = SecretKey(b"12345678", bytes(range(32)))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def change(text: str, line: int, at: int) -> str:
    """Returns a file with one bit of a line's bytes changed."""
    lines = text.split("\n")
    raw = bytearray(base64.b64decode(lines[line]))
    raw[at] ^= 1
    lines[line] = base64.b64encode(raw).decode()
    return "\n".join(lines)


@pytest.mark.parametrize("text", [PREHASHED, PLAIN])
def test_signatures_of_minisign_are_accepted(tmp_path: Path, text: str) -> None:
    key = read_public_key(write(tmp_path / "a.pub", OPEN_PUBLIC))
    signature = read_signature(write(tmp_path / "a.minisig", text))
    check(MESSAGE, signature, key)
    assert signature.to_text().split("\n")[1:] == text.split("\n")[1:]
    with pytest.raises(SignatureError, match="the signature does not fit"):
        check(MESSAGE + b"!", signature, key)


def test_a_key_of_minisign_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.key", OPEN_KEY)
    assert not is_locked(path)
    public = read_public_key(write(tmp_path / "a.pub", OPEN_PUBLIC))
    assert read_secret_key(path).public == public
    assert OPEN_PUBLIC.split()[5] == public.name


@pytest.mark.slow
def test_a_locked_key_of_minisign_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.key", LOCKED_KEY)
    assert is_locked(path)
    public = read_public_key(write(tmp_path / "a.pub", LOCKED_PUBLIC))
    assert read_secret_key(path, "pw").public == public
    with pytest.raises(SignatureError, match="wrong password, or damaged"):
        read_secret_key(path, "PW")


def test_a_locked_key_needs_its_password(tmp_path: Path) -> None:
    path = write(tmp_path / "a.key", LOCKED_KEY)
    with pytest.raises(SignatureError, match="locked with a password, and none was given"):
        read_secret_key(path)


@pytest.mark.slow
def test_keys_are_written_as_they_are_read(tmp_path: Path) -> None:
    secret, public = tmp_path / "a.key", tmp_path / "a.pub"
    write_key_files(KEY, secret, public, "geheim")
    assert is_locked(secret)
    assert read_secret_key(secret, "geheim") == KEY
    assert read_public_key(public) == KEY.public


def test_a_key_s_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    secret, public = tmp_path / "a.key", tmp_path / "a.pub"
    write_key_files(KEY, secret, public, None)
    assert secret.stat().st_mode & 0o777 == 0o600
    assert read_secret_key(secret) == KEY
    assert KEY.seed.hex() not in repr(KEY)
    assert repr(KEY.seed) not in repr(KEY)


@pytest.mark.parametrize("existing", ["a.key", "a.pub"])
def test_a_key_is_never_overwritten(tmp_path: Path, existing: str) -> None:
    write(tmp_path / existing, "mine")
    with pytest.raises(SignatureError, match="exists, and a key is never overwritten"):
        write_key_files(KEY, tmp_path / "a.key", tmp_path / "a.pub", None)
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "mine"


def test_two_keys_differ() -> None:
    first, second = make_key(), make_key()
    assert first.key_id != second.key_id
    assert first.seed != second.seed


@settings(deadline=None)
@given(message=st.binary(max_size=300))
def test_what_is_signed_is_accepted(message: bytes) -> None:
    signature = sign(message, KEY, "ein Kommentar, für Äpfel")
    assert signature == sign(message, KEY, "ein Kommentar, für Äpfel")
    check(message, signature, KEY.public)


def test_another_key_is_named() -> None:
    with pytest.raises(
        SignatureError, match=r"signed by the key 3837363534333231, not by [0-9A-F]{16}"
    ):
        check(MESSAGE, sign(MESSAGE, KEY, "x"), make_key().public)


def test_the_comment_is_signed(tmp_path: Path) -> None:
    text = sign(MESSAGE, KEY, "release 3").to_text()
    signature = read_signature(write(tmp_path / "s", text.replace("release 3", "release 4")))
    with pytest.raises(SignatureError, match="the trusted comment is not the one that was signed"):
        check(MESSAGE, signature, KEY.public)
    with pytest.raises(ValueError, match="one line"):
        sign(MESSAGE, KEY, "two\nlines")


# Of a signature's second line: the algorithm, the key's id, and both halves of the signature.
@pytest.mark.parametrize(("line", "at"), [(1, 1), (1, 5), (1, 10), (1, 73), (3, 0), (3, 63)])
def test_a_changed_byte_of_a_signature_is_refused(tmp_path: Path, line: int, at: int) -> None:
    path = write(tmp_path / "s", change(sign(MESSAGE, KEY, "x").to_text(), line, at))
    with pytest.raises(SignatureError):
        check(MESSAGE, read_signature(path), KEY.public)


@pytest.mark.parametrize("line", [1, 3])
def test_bits_that_stand_for_nothing_are_refused(tmp_path: Path, line: int) -> None:
    lines = sign(MESSAGE, KEY, "x").to_text().split("\n")
    row = lines[line].rstrip("=")
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    lines[line] = row[:-1] + digits[digits.index(row[-1]) + 1] + lines[line][len(row) :]
    with pytest.raises(SignatureError, match="bits that stand for nothing"):
        read_signature(write(tmp_path / "s", "\n".join(lines)))


@pytest.mark.parametrize("at", [0, 2, 4, 62, 100])
def test_a_changed_byte_of_a_secret_key_is_refused(tmp_path: Path, at: int) -> None:
    path = write(tmp_path / "k", change(KEY.to_text(None), 1, at))
    with pytest.raises(SignatureError):
        read_secret_key(path)


def test_a_key_that_asks_for_too_much_memory_is_refused(tmp_path: Path) -> None:
    # The upper half of the memory limit, whose eight bytes begin at 46.
    path = write(tmp_path / "k", change(LOCKED_KEY, 1, 52))
    with pytest.raises(SignatureError, match="asks for more work"):
        read_secret_key(path, "pw")


@pytest.mark.parametrize(
    "text",
    ["", "\n", "one line", "a comment\nAAAA\n", "a comment\n!!!!\n", "a\nb\nc\nd\n", "x" * 70000],
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "x", text)
    for read in (read_public_key, read_secret_key, read_signature, is_locked):
        with pytest.raises(SignatureError, match="x: "):
            read(path)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="none: no such file"):
        read_public_key(tmp_path / "none")
    with pytest.raises(SignatureError, match="cannot be read"):
        read_public_key(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SignatureError, match="cannot be read"):
        read_signature(tmp_path / "binary")


@settings(deadline=None)
@given(content=st.binary(max_size=200))
def test_noise_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(content)
    for read in (read_public_key, read_secret_key, read_signature):
        with pytest.raises(SignatureError):
            read(path)


@pytest.mark.skipif(not shutil.which("minisign"), reason="minisign is not installed")
def test_minisign_accepts_what_we_write(tmp_path: Path) -> None:
    write_key_files(KEY, tmp_path / "a.key", tmp_path / "a.pub", None)
    (tmp_path / "m").write_bytes(MESSAGE)
    write(tmp_path / "m.minisig", sign(MESSAGE, KEY, "ours").to_text())

    def run(*words: str) -> str:
        return subprocess.run(
            ["minisign", *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    assert "Trusted comment: ours" in run("-V", "-p", "a.pub", "-m", "m")
    run("-S", "-W", "-s", "a.key", "-m", "m", "-x", "theirs")
    check(MESSAGE, read_signature(tmp_path / "theirs"), KEY.public)
