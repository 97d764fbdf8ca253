import random
import shutil
import struct

import pytest
from signed_bundles import KEY
from small_bundles import make
from typer.testing import CliRunner

from edgekit import EdgekitError, PlanError, SignatureError
from edgekit.bundles.bundle import read_bundle
from edgekit.bundles.bundle_file import pack_bundle
from edgekit.bundles.minisign import SecretKey
from edgekit.bundles.release import release_bundle
from edgekit.cli import app
from edgekit.delivery.delta import apply_delta, is_delta, make_delta


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Two releases of a bundle, of which the second has a file more and one that is a little different."""
    folder = tmp_path_factory.mktemp("bundles")
    weights = random.Random(1).randbytes(300_000)
    other = weights[:200_000] + b"other" + weights[200_100:]
    old = make(folder / "old", sign_with=KEY, extra={"extra/weights": weights}).path
    new = make(folder / "new", sign_with=KEY, extra={"extra/weights": other, "new": b"new"}).path
    release_bundle(new, release=2, sign_with=KEY)
    return old, new


def content(folder):
    return {
        file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()
    }


def test_a_delta_makes_the_new_bundle_of_the_old_one(bundles, tmp_path):
    old, new = bundles
    sizes = make_delta(old, new, tmp_path / "x.delta")
    assert sizes.delta == (tmp_path / "x.delta").stat().st_size
    assert sizes.bundle == pack_bundle(new, tmp_path / "new.edgekit").stat().st_size
    assert sizes.share < 0.02
    apply_delta(old, tmp_path / "x.delta", tmp_path / "out", key=KEY.public)
    assert content(tmp_path / "out") == content(new)
    assert read_bundle(tmp_path / "out").release == 2


def test_folders_and_files_are_the_same_to_it(bundles, tmp_path):
    old, new = bundles
    old_file = pack_bundle(old, tmp_path / "old.edgekit")
    new_file = pack_bundle(new, tmp_path / "new.edgekit")
    make_delta(old, new, tmp_path / "folders.delta")
    make_delta(old_file, new_file, tmp_path / "files.delta")
    assert (tmp_path / "folders.delta").read_bytes() == (tmp_path / "files.delta").read_bytes()
    apply_delta(old_file, tmp_path / "folders.delta", tmp_path / "out.edgekit")
    assert (tmp_path / "out.edgekit").read_bytes() == new_file.read_bytes()


def test_what_does_not_belong_together_is_refused(bundles, tmp_path):
    old, new = bundles
    file = tmp_path / "x.delta"
    make_delta(old, new, file)
    out = tmp_path / "out"
    with pytest.raises(PlanError, match=r"for another file than the one that is here; the old"):
        apply_delta(new, file, out)
    with pytest.raises(SignatureError):
        apply_delta(old, file, out, key=SecretKey(b"other id", bytes(32)).public)
    with pytest.raises(PlanError, match="no delta"):
        apply_delta(old, old / "manifest.json", out)
    with pytest.raises(PlanError, match="no delta"):
        apply_delta(old, tmp_path / "missing", out)
    with pytest.raises(PlanError, match="no such bundle"):
        make_delta(tmp_path / "missing", new, file)
    with pytest.raises(EdgekitError, match="is no delta"):
        make_delta(old, new, old / "model.plan")
    whole = file.read_bytes()
    bomb = whole[:16] + struct.pack("<Q", 1 << 40) + whole[24:]
    for forged, words in (
        (whole[:20], "cut off"),
        (whole[:-5], "ended too early"),
        (bomb, "no bundle of 1099511627776 bytes"),
    ):
        file.write_bytes(forged)
        with pytest.raises(PlanError, match=words):
            apply_delta(old, file, out)
    assert not out.exists()


def test_a_delta_that_makes_something_else_is_refused(bundles, tmp_path):
    from edgekit._native import make_recipe

    old, new = bundles
    before = pack_bundle(old, tmp_path / "old.edgekit").read_bytes()
    after = bytearray(pack_bundle(new, tmp_path / "new.edgekit").read_bytes())
    for at in range(0, len(after), 7919):
        after[at] ^= 1
        (tmp_path / "x.delta").write_bytes(make_recipe(before, bytes(after)))
        with pytest.raises((PlanError, SignatureError)):
            apply_delta(old, tmp_path / "x.delta", tmp_path / "out", key=KEY.public)
        after[at] ^= 1
    assert not (tmp_path / "out").exists()


def test_a_damaged_bundle_gives_no_delta(bundles, tmp_path):
    old, new = bundles
    shutil.copytree(new, tmp_path / "new")
    (tmp_path / "new/model.plan").write_bytes(b"other")
    with pytest.raises(PlanError, match="changed"):
        make_delta(old, tmp_path / "new", tmp_path / "x.delta")
    assert not is_delta(tmp_path / "x.delta")


def test_on_the_command_line(bundles, tmp_path):
    old, new = bundles
    run = CliRunner().invoke
    file = str(tmp_path / "x.delta")
    made = run(app, ["delta", str(old), str(new), "-o", file])
    assert made.exit_code == 0, made.output
    assert "% of the bundle's" in made.output
    done = run(app, ["patch", str(old), file, "-o", str(tmp_path / "out.edgekit")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out.edgekit").is_file()
