"""A bundle with a real plan is changed in every way that a file can be, and refused each time, on the device and here.

Its programs are small scripts, so that a thousand checks take seconds.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from device_root import Device, make_device
from signed_bundles import KEY, make_bundle

import edgekit
from edgekit.bundles.bundle import read_bundle
from edgekit.bundles.bundle_file import pack_bundle, unpack_bundle
from edgekit.bundles.minisign import SecretKey, sign
from edgekit.targets.errors import PlanError, SignatureError

NETWORK = Path(__file__).parents[2] / "benchmarks/ds_cnn/ds_cnn.onnx"
MANIFEST, SIGNATURE, PLAN = "manifest.json", "manifest.json.minisig", "model.plan"


@dataclass(frozen=True)
class Tampering:
    """A change of a bundle's folder.

    Attributes:
        name: For messages.
        do: Makes it in a folder.
    """

    name: str
    do: Callable[[Path], object]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deployed")
    inputs = np.random.default_rng(0).uniform(0, 1, (8, 1, 28, 28)).astype(np.float32)
    edgekit.deploy(NETWORK, calibration=inputs, output=folder / "real", ranges="minmax")
    plan = (folder / "real" / PLAN).read_bytes()
    return make_bundle(folder / "bundle", release=2, plan=plan)


@pytest.fixture
def device(bundle: Path, tmp_path: Path) -> Device:
    """A device that runs release 1 and has release 2 in its other slot."""
    device = make_device(tmp_path / "device")
    device.install(make_bundle(tmp_path / "first", release=1))
    device.send(bundle)
    return device


def flip(name: str, at: int, bit: int = 0) -> Tampering:
    def do(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[at] ^= 1 << bit
        (folder / name).write_bytes(content)

    return Tampering(f"bit {bit} of byte {at} of {name}", do)


def list_places(bundle: Path, name: str) -> Iterator[int]:
    """Yields a byte of each class of a file: what it begins and ends with, and what lies between."""
    content = (bundle / name).read_bytes()
    size = len(content)
    if name == MANIFEST:
        # One of each kind of letter, at several places, and each byte of one file's row.
        kinds: dict[int, list[int]] = {}
        for at, byte in enumerate(content):
            kinds.setdefault(byte, []).append(at)
        for places in kinds.values():
            yield from {places[0], places[len(places) // 2], places[-1]}
        row = content.index(b'"model.plan"')
        yield from range(row, row + 150)
    elif name == PLAN:
        # Tables and names at the front, blocks of weights, biases and multipliers behind: each 512 bytes one.
        yield from range(256)
        yield from range(256, size, 512)
    yield from {0, size // 3, size // 2, size - 1} if size else set()


def list_tamperings(bundle: Path) -> Iterator[Tampering]:
    files = sorted(
        file.relative_to(bundle).as_posix() for file in bundle.rglob("*") if file.is_file()
    )
    assert {MANIFEST, SIGNATURE, PLAN, "edgekit-run", "edgekit-board"} < set(files)
    for name in files:
        if name == SIGNATURE:
            continue
        for at in sorted(set(list_places(bundle, name))):
            yield flip(name, at, at % 8)
    # The first line is a comment that minisign does not sign; every byte behind it counts.
    signature = (bundle / SIGNATURE).read_bytes()
    for at in range(signature.index(b"\n") + 1, len(signature) - 1):
        yield flip(SIGNATURE, at)
    for name in files:
        yield from list_changes(name)
    for name in ("extra", "golden/extra", ".hidden", "golden/inputs/0.npy.bak"):
        yield Tampering(f"{name} besides", lambda folder, n=name: (folder / n).write_bytes(b"x"))
    yield Tampering("a link besides", lambda folder: (folder / "x").symlink_to("model.plan"))
    yield Tampering("a link to a folder", lambda folder: (folder / "x").symlink_to("/"))
    yield Tampering("a pipe besides", lambda folder: os.mkfifo(folder / "x"))
    yield Tampering("two files exchanged", exchange)


def list_changes(name: str) -> Iterator[Tampering]:
    def append(folder: Path) -> None:
        with (folder / name).open("ab") as file:
            file.write(b"\n")

    def cut(folder: Path) -> None:
        os.truncate(folder / name, (folder / name).stat().st_size - 1)

    def link(folder: Path) -> None:
        (folder / name).rename(folder.parent / "elsewhere")
        (folder / name).symlink_to(folder.parent / "elsewhere")

    def fold(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    def pipe(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    # A signature's file may end with a blank line; all else is what it is to the byte.
    if name != SIGNATURE:
        yield Tampering(f"{name} is longer", append)
        yield Tampering(f"{name} is shorter", cut)
    yield Tampering(f"{name} is empty", lambda folder: os.truncate(folder / name, 0))
    yield Tampering(f"{name} is missing", lambda folder: (folder / name).unlink())
    yield Tampering(f"{name} is a link", link)
    yield Tampering(f"{name} is a folder", fold)
    yield Tampering(f"{name} is a pipe", pipe)


def exchange(folder: Path) -> None:
    (folder / "edgekit-run").rename(folder / "x")
    (folder / "edgekit-board").rename(folder / "edgekit-run")
    (folder / "x").rename(folder / "edgekit-board")


def put_back(whole: Path, folder: Path) -> None:
    """Makes `folder` again what `whole` is."""
    shutil.rmtree(folder)
    shutil.copytree(whole, folder, symlinks=True)
    (folder.parent / "elsewhere").unlink(missing_ok=True)


def is_taken(read: Callable[..., object], *words: Path) -> bool:
    try:
        read(*words, key=KEY.public)
    except (PlanError, SignatureError):
        return False
    return True


@pytest.mark.slow
def test_a_device_refuses_every_changed_bundle(device: Device, bundle: Path) -> None:
    slot = device.root / "slots/b"
    whole = device.root.parent / "whole"
    shutil.copytree(slot, whole)
    state = (device.root / "state").read_bytes()
    count = 0
    for tampering in list_tamperings(bundle):
        tampering.do(slot)
        refused = device.run("switch")
        assert refused.returncode == 1, (tampering.name, refused.stdout, refused.stderr)
        assert refused.stderr.count(b"\n") == 1, tampering.name
        assert (device.root / "state").read_bytes() == state, tampering.name
        put_back(whole, slot)
        count += 1
    device.do("switch")
    print(f"{count} changed bundles, {count} refused on the device")
    assert count > 700


@pytest.mark.slow
def test_they_are_refused_here_as_well(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(bundle, folder)
    count = 0
    for tampering in list_tamperings(bundle):
        tampering.do(folder)
        assert not is_taken(read_bundle, folder), tampering.name
        put_back(bundle, folder)
        count += 1
    read_bundle(folder, key=KEY.public)
    print(f"{count} changed bundles, {count} refused here")
    assert count > 700


@pytest.mark.slow
def test_a_bundle_s_file_is_refused_wherever_it_is_changed(bundle: Path, tmp_path: Path) -> None:
    whole = pack_bundle(bundle, tmp_path / "whole.edgekit").read_bytes()
    signed = whole.index(b"untrusted comment")
    comment = range(signed, whole.index(b"\n", signed))
    places = {*range(1024), *range(0, len(whole), 1999), *range(len(whole) - 1024, len(whole))}
    file = tmp_path / "x.edgekit"
    for at in sorted(places - set(comment)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert not is_taken(unpack_bundle, file, tmp_path / "out"), at
    for size in range(0, len(whole), 4999):
        file.write_bytes(whole[:size])
        assert not is_taken(unpack_bundle, file, tmp_path / "out"), size
    assert not (tmp_path / "out").exists()


def test_what_others_signed_and_what_is_older_is_refused(
    device: Device, bundle: Path, tmp_path: Path
) -> None:
    manifest = (bundle / MANIFEST).read_bytes()
    stranger = SecretKey(b"stranger", bytes(32))
    namesake = SecretKey(KEY.public.key_id, bytes(32))
    other_words = sign(manifest + b" ", KEY, "of another manifest").to_text()
    for signature in (
        sign(manifest, stranger, "mine").to_text(),
        sign(manifest, namesake, "mine").to_text(),
        other_words,
        "",
    ):
        (device.root / f"slots/b/{SIGNATURE}").write_text(signature)
        assert SIGNATURE in device.refuse("switch")
    device.install(bundle)
    (command, stdin), *_ = device.steps(make_bundle(tmp_path / "old", release=1))
    assert "takes none before 2" in device.refuse(*command[2:], stdin=stdin)
    other = make_device(tmp_path / "another device", "rpi5")
    (command, stdin), *_ = other.steps(bundle)
    assert "the bundle is for rpi4, and this is rpi5" in other.refuse(*command[2:], stdin=stdin)
