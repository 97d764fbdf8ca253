"""Releases of bundles: their number, what a device holds them to, and who signed them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from signed_bundles import KEY
from small_bundles import edit_manifest, make

import edgekit
from edgekit import EdgekitError, PlanError, SignatureError
from edgekit.bundles.bundle import Bundle, read_bundle, sign_bundle
from edgekit.bundles.manifest import Limits
from edgekit.bundles.minisign import make_key, write_key_files
from edgekit.bundles.release import read_key, release_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make(tmp_path / "bundle", release=3, limits=Limits(1500, 8_000_000))


def manifest_of(bundle: Bundle) -> Any:
    return json.loads((bundle.path / "manifest.json").read_text())


def test_a_bundle_says_its_release_and_limits(bundle: Bundle) -> None:
    assert (bundle.release, bundle.limits) == (3, Limits(1500, 8_000_000))
    manifest = manifest_of(bundle)
    assert manifest["release"] == 3
    assert manifest["limits"] == {"latency_us": 1500, "memory_bytes": 8_000_000}


def test_the_first_release_has_no_limits(tmp_path: Path) -> None:
    bundle = make(tmp_path / "bundle")
    assert (bundle.release, bundle.limits) == (1, Limits())
    assert "limits" not in manifest_of(bundle)


def test_an_older_manifest_says_nothing(bundle: Bundle) -> None:
    edit_manifest(bundle.path, lambda manifest: [manifest.pop(k) for k in ("release", "limits")])
    again = read_bundle(bundle.path)
    assert (again.release, again.limits) == (0, Limits())


@pytest.mark.parametrize("release", [0, -1, 2**63, True, 1.0, "1", None])
def test_what_is_no_release(tmp_path: Path, release: Any) -> None:
    with pytest.raises(EdgekitError, match="release must be a whole number from 1"):
        make(tmp_path / "bundle", release=release)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan, True, "5", 1e300])
def test_what_is_no_limit(value: Any) -> None:
    with pytest.raises(EdgekitError, match="max_ms must be a number above 0"):
        Limits.from_units(value, None)
    with pytest.raises(EdgekitError, match="max_mb must be a number above 0"):
        Limits.from_units(None, value)


def test_limits_are_whole_units() -> None:
    assert Limits.from_units(1.5, 8) == Limits(1500, 8_000_000)
    assert Limits.from_units(1e-9, None) == Limits(1, 0)  # 0 would be no limit.


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("release", -1, "'release' is no count"),
        ("release", 2**63, "'release' is no count"),
        ("release", True, "'release' is no count"),
        ("release", 1.0, "'release' is no count"),
        ("release", None, "'release' is no count"),
        ("limits", [], "'limits' may have the keys"),
        ("limits", {"watts": 1}, "'limits' may have the keys latency_us, memory_bytes alone"),
        ("limits", {"latency_us": "1"}, "'limits.latency_us' is no count"),
        ("limits", {"memory_bytes": -1}, "'limits.memory_bytes' is no count"),
    ],
)
def test_forged_manifest(bundle: Bundle, key: str, value: Any, message: str) -> None:
    edit_manifest(bundle.path, lambda manifest: manifest.update({key: value}))
    with pytest.raises(PlanError, match=message):
        read_bundle(bundle.path)


@pytest.mark.parametrize("text", ["-0", "NaN", "Infinity", '3, "release": 3'])
def test_manifest_that_the_board_would_not_read(bundle: Bundle, text: str) -> None:
    file = bundle.path / "manifest.json"
    content = file.read_text()
    assert content.count('"release": 3') == 1
    file.write_text(content.replace('"release": 3', f'"release": {text}'))
    with pytest.raises(PlanError, match=r"manifest\.json"):
        read_bundle(bundle.path)


def test_a_new_release_changes_the_manifest_alone(bundle: Bundle) -> None:
    before = manifest_of(bundle)
    again = release_bundle(bundle.path)
    assert (again.release, again.limits, again.files) == (4, bundle.limits, bundle.files)
    assert manifest_of(bundle) == before | {"release": 4}
    assert release_bundle(bundle.path, release=9, limits=Limits(7)).limits == Limits(7)
    assert release_bundle(bundle.path, limits=Limits()).limits == Limits()
    assert sorted(path.name for path in bundle.path.iterdir()) == [
        "edgekit-board",
        "edgekit-run",
        "forms",
        "golden",
        "manifest.json",
        "model.plan",
    ]


def test_the_same_release_has_the_same_bytes(tmp_path: Path) -> None:
    made = make(tmp_path / "one", release=4, limits=Limits(7), sign_with=KEY)
    later = make(tmp_path / "two", release=1)
    release_bundle(later.path, release=4, limits=Limits(7), sign_with=KEY)
    for name in ("manifest.json", "manifest.json.minisig"):
        assert (made.path / name).read_bytes() == (later.path / name).read_bytes()


def test_a_signature_does_not_outlive_its_manifest(bundle: Bundle, tmp_path: Path) -> None:
    sign_bundle(bundle.path, KEY)
    assert read_bundle(bundle.path, key=KEY.public)
    release_bundle(bundle.path)
    with pytest.raises(SignatureError, match="not signed"):
        read_bundle(bundle.path, key=KEY.public)
    write_key_files(KEY, tmp_path / "k.key", tmp_path / "k.pub", None)
    release_bundle(bundle.path, sign_with=tmp_path / "k.key")
    assert read_bundle(bundle.path, key=KEY.public).release == 5


def test_a_damaged_bundle_is_not_released(bundle: Bundle) -> None:
    before = (bundle.path / "manifest.json").read_bytes()
    bundle.plan.write_bytes(b"plan!")
    with pytest.raises(PlanError, match="changed"):
        release_bundle(bundle.path)
    assert (bundle.path / "manifest.json").read_bytes() == before


def test_what_is_no_key(tmp_path: Path) -> None:
    assert read_key(None) is None
    assert read_key(KEY) is KEY
    with pytest.raises(EdgekitError, match="must be a key's file or a SecretKey"):
        read_key(3)  # type: ignore[arg-type]
    with pytest.raises(SignatureError, match="no such file"):
        read_key(tmp_path / "absent.key")


@pytest.mark.slow
def test_a_locked_key_is_named(tmp_path: Path) -> None:
    write_key_files(make_key(), tmp_path / "k.key", tmp_path / "k.pub", "word")
    with pytest.raises(SignatureError, match=r"k\.key: locked with a password: give"):
        read_key(tmp_path / "k.key")


def test_deploy_makes_a_signed_release(cnn: Path, images: Any, tmp_path: Path) -> None:
    edgekit.deploy(
        cnn,
        calibration=images,
        output=tmp_path / "dist",
        ranges="minmax",
        precision="int8",
        release=7,
        max_ms=2.5,
        max_mb=64,
        sign_with=KEY,
    )
    bundle = read_bundle(tmp_path / "dist", key=KEY.public)
    assert (bundle.release, bundle.limits) == (7, Limits(2500, 64_000_000))


@pytest.mark.slow
def test_deploy_says_which_limits_will_not_be_kept(cnn: Path, images: Any, tmp_path: Path) -> None:
    given: dict[str, Any] = {"ranges": "minmax", "precision": "int8", "calibration": images}
    tight = edgekit.deploy(cnn, output=tmp_path / "a", max_ms=1e-3, max_mb=1e-3, **given)
    told = [note.partition(":")[0] for note in tight.report.notes]
    assert told[-2:] == ["TOO LARGE", "TOO SLOW"]
    wide = edgekit.deploy(cnn, output=tmp_path / "b", max_ms=1e4, max_mb=1e4, **given)
    assert not [note for note in wide.report.notes if note.startswith("TOO")]


@pytest.mark.parametrize("given", [{"max_ms": 5}, {"max_mb": 5}, {"sign_with": KEY}])
def test_forms_without_a_bundle_have_no_release(
    cnn: Path, images: Any, tmp_path: Path, given: dict[str, Any]
) -> None:
    with pytest.raises(EdgekitError, match=f"{next(iter(given))} is for format='native'"):
        edgekit.deploy(cnn, calibration=images, output=tmp_path / "d", format="onnx", **given)
