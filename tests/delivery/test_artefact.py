"""`edgekit flash --to` files: images, cards and packages by options that have names."""

import shutil
from pathlib import Path

import pytest
from device_root import find_program
from signed_bundles import make_bundle
from staged_root import write_key
from typer.testing import CliRunner

from edgekit import EdgekitError, SignatureError
from edgekit.cli import app
from edgekit.delivery.flash import flash


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle", release=5, board_program=find_program())


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write_key(tmp_path)


def test_an_image_is_flashed_to(bundle: Path, key: Path, tmp_path: Path) -> None:
    if shutil.which("debugfs", path="/usr/sbin:/sbin") is None:
        pytest.skip("no debugfs (Debian: e2fsprogs)")
    image = tmp_path / "card.img"
    result = flash(bundle, f"image://{image}", key=key, options=["data-mib=32"])
    assert (result.state, result.release, result.sent_bytes) == ("written", 5, 32 << 20)
    assert str(result) == f"image://{image}: release 5 written, 33554432 bytes"
    assert image.with_name("card.img.bmap").is_file()
    assert result.steps == (f"block map {image}.bmap",)


def test_a_package_is_flashed_to_on_the_command_line(
    bundle: Path, key: Path, tmp_path: Path
) -> None:
    package = tmp_path / "out.deb"
    words = ["flash", str(bundle), "--to", f"deb://{package}", "--key", str(key)]
    done = CliRunner().invoke(app, [*words, "--with", "package=lite0", "--with", "version=5-2"])
    assert done.exit_code == 0, done.output
    assert "release 5 written" in done.output
    assert package.read_bytes().startswith(b"!<arch>\n")


@pytest.mark.parametrize(
    ("to", "options", "match"),
    [
        ("image://", (), "which file"),
        ("image://x.img", ("bse=raspios.img",), "no option of image://: base=FILE"),
        ("image://x.img", ("base",), "no option of image://"),
        ("image://x.img", ("base=a", "base=b"), "'base' is given twice"),
        ("image://x.img", ("kernel=a",), "needs busybox=FILE"),
        ("image://x.img", ("busybox=a",), "'busybox' goes with 'kernel'"),
        ("image://x.img", ("data-mib=big",), "a whole number is wanted"),
        ("image://x.img", ("kernel=a", "busybox=b", "loader=c"), "FILE@BYTES is wanted"),
        ("image://x.img", ("kernel=a", "busybox=b", "base=c"), "give one of them"),
        ("card:///dev/null", ("fixed=no", "data-mib=16"), "fixed=yes, or leave it out"),
        ("card:///dev/null", ("data-mib=16", "erase=null"), "not a block device"),
        ("deb://x.deb", ("cert=a",), "no option of deb://"),
        ("rauc://x.raucb", (), "needs cert=FILE"),
        ("rauc://x.raucb", ("cert=a", "cert-key=b", "format=zip"), "verity or plain"),
        ("ftp://x", (), "where to"),
        ("dir:///x", ("base=a",), "takes no options"),
    ],
)
def test_what_cannot_be_written_to(
    bundle: Path,
    key: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    to: str,
    options: tuple[str, ...],
    match: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    with pytest.raises(EdgekitError, match=match):
        flash(bundle, to, key=key, options=options)
    assert set(tmp_path.iterdir()) == before


def test_a_key_is_needed(bundle: Path, tmp_path: Path) -> None:
    for to in ("image", "deb"):
        with pytest.raises(EdgekitError, match="the public key"):
            flash(bundle, f"{to}://{tmp_path / 'x'}")
    (bundle / "manifest.json.minisig").unlink()
    with pytest.raises(SignatureError, match="is not signed"):
        flash(bundle, f"rauc://{tmp_path / 'x'}", options=["cert=a", "cert-key=b"])
