"""Bundles that a fleet is given: folders, files, and folders of both."""

from dataclasses import replace
from pathlib import Path

import pytest
from signed_bundles import KEY
from small_bundles import TARGET, make

from edgekit import EdgekitError, SignatureError
from edgekit.bundles.bundle_file import pack_bundle
from edgekit.delivery.fleet.fleet import opened_bundles


def test_files_do_as_folders_do(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    one = make(tmp_path / "all/one", sign_with=KEY)
    rpi5 = replace(TARGET, name="rpi5")
    two = make(tmp_path / "two", sign_with=KEY, target=rpi5)
    pack_bundle(two.path, tmp_path / "all/two.edgekit")
    with opened_bundles([tmp_path / "all"]) as (bundles, digests):
        assert set(bundles) == set(digests) == {"rpi4", "rpi5"}
        assert bundles["rpi4"] == one
        assert bundles["rpi5"].files == two.files
        unpacked = bundles["rpi5"].path
        assert unpacked.is_dir()
    assert not unpacked.exists()
    with opened_bundles([one.path, tmp_path / "two"]) as (_, again):
        assert again == digests


def test_two_for_one_board_are_named_as_they_were_given(tmp_path: Path) -> None:
    bundle = make(tmp_path / "one", sign_with=KEY)
    file = pack_bundle(bundle.path, tmp_path / "two.edgekit")
    with (
        pytest.raises(EdgekitError, match=r"one and .*two\.edgekit are both for rpi4"),
        opened_bundles([bundle.path, file]),
    ):
        pass


def test_an_unsigned_file_is_named(tmp_path: Path) -> None:
    file = pack_bundle(make(tmp_path / "one").path, tmp_path / "two.edgekit")
    with pytest.raises(SignatureError, match=r"two\.edgekit: not signed"), opened_bundles([file]):
        pass
