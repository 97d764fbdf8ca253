import hashlib
import random
from pathlib import Path

import pytest
from device_root import Device, make_device
from signed_bundles import make_bundle

from edgekit._native import cut_chunks, make_recipe, make_recipe_of_chunks

OLD = random.Random(1).randbytes(200_000)
NEW = OLD[:150_000] + b"the last layers are others" * 100 + OLD[160_000:]


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """A device with one bundle, while another one is on its way, of which the plan is missing."""
    device = make_device(tmp_path / "device")
    device.install(make_bundle(tmp_path / "old", release=1, plan=OLD))
    assert device.begin(make_bundle(tmp_path / "new", release=2, plan=NEW)) == [
        (0, len(NEW), "model.plan")
    ]
    return device


def test_a_recipe_makes_the_new_plan_of_the_old_one(device):
    recipe = make_recipe(OLD, NEW)
    assert len(recipe) < 2000
    device.do("patch", "model.plan", stdin=recipe)
    assert (device.root / "slots/b/model.plan").read_bytes() == NEW
    device.do("switch")
    device.do("start")
    device.do("confirm")
    assert device.status["active"] == "b"


def test_the_device_tells_chunks_for_a_recipe(device):
    first, *rows = device.do("chunks", "model.plan").splitlines()
    size, sha256 = first.split()
    assert (int(size), sha256) == (len(OLD), hashlib.sha256(OLD).hexdigest())
    chunks = []
    offset = 0
    for row in rows:
        length, digest = row.split()
        chunks.append((offset, int(length), bytes.fromhex(digest)))
        offset += int(length)
    assert chunks == cut_chunks(OLD)
    recipe = make_recipe_of_chunks(len(OLD), bytes.fromhex(sha256), chunks, NEW)
    assert len(recipe) < 60_000
    device.do("patch", "model.plan", stdin=recipe)
    device.do("switch")


def test_a_recipe_takes_the_place_of_what_came_of_a_broken_link(device, tmp_path):
    device.refuse("put", "model.plan", "0", stdin=NEW[:1000])
    device.do("patch", "model.plan", stdin=make_recipe(OLD, NEW))
    assert device.begin(tmp_path / "new") == []


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (b"", "the recipe is none"),
        (b"EKDELTA1" + bytes(48), "is for another file"),
        (make_recipe(OLD, NEW)[:-3], "ended too early"),
        (make_recipe(OLD, NEW) + b"x", "bytes behind its end"),
        (make_recipe(OLD + b"x", NEW), "is for another file"),
        (make_recipe(OLD, NEW + b"x"), "makes another file"),
        (make_recipe(OLD, NEW[:-1] + b"x"), "not the bytes that the manifest says"),
    ],
)
def test_another_recipe_is_refused_and_the_file_can_still_come(device, tmp_path, recipe, words):
    assert words in device.refuse("patch", "model.plan", stdin=recipe)
    assert "missing" in device.refuse("switch")
    assert device.begin(tmp_path / "new") == [(0, len(NEW), "model.plan")]
    device.do("put", "model.plan", "0", stdin=NEW)
    device.do("switch")


def test_only_files_of_the_bundle_are_patched(device):
    recipe = make_recipe(OLD, NEW)
    assert "no file of the bundle" in device.refuse("patch", "../a/model.plan", stdin=recipe)
    assert "no file of the bundle" in device.refuse("patch", "manifest.json", stdin=recipe)
    assert "no file of what is installed" in device.refuse("chunks", "../../state")


def test_without_an_active_bundle_there_is_nothing_to_patch(tmp_path):
    device = make_device(tmp_path / "empty")
    device.begin(make_bundle(tmp_path / "new", release=1, plan=NEW))
    assert "nothing to patch" in device.refuse("patch", "model.plan", stdin=b"")
    assert "nothing is installed" in device.refuse("chunks", "model.plan")
