"""Plans that only a device of a certain key can read: they are run, and never lie on a disk in the clear."""

import hashlib
import os
import stat
import subprocess
from pathlib import Path

import pytest
from device_root import Device, make_device
from signed_bundles import make_bundle

from edgekit._native import age_recipient
from edgekit.bundles.age import lock, make_identity

SECRET = b"weights that nobody else is to see" * 3000
PLAN = SECRET + b"\n"
SEES_THE_SECRET = f'[ "$(sha256sum <"$plan")" = "{hashlib.sha256(PLAN).hexdigest()}  -" ] || exit 9'


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return make_device(tmp_path / "device")


def locked_bundle(folder: Path, *recipients: str, content: bytes | None = None) -> Path:
    locked = lock(PLAN, recipients) if content is None else content
    return make_bundle(
        folder, release=1, plan=locked, plan_name="model.plan.age", ending=SEES_THE_SECRET
    )


def test_a_device_makes_its_key_once(device):
    recipient = device.do("key").strip()
    file = device.root / "identity"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert age_recipient(file.read_text()) == recipient
    assert device.do("key").strip() == recipient


def test_a_locked_plan_runs_and_stays_locked(device, tmp_path):
    recipient = device.do("key").strip()
    other = age_recipient(make_identity())
    device.install(locked_bundle(tmp_path / "bundle", other, recipient))
    assert device.status["active"] == "a"
    for file in device.root.rglob("*"):
        if file.is_file():
            assert SECRET[:34] not in file.read_bytes(), file


def test_what_is_locked_for_others_is_refused(device, tmp_path):
    bundle = locked_bundle(tmp_path / "bundle", age_recipient(make_identity()))
    device.send(bundle)
    assert "this device has none: `edgekit-board ROOT key` makes one" in device.refuse("switch")
    device.do("key")
    assert "model.plan.age: not locked for this key" in device.refuse("switch")
    assert device.status["active"] == "-"


def test_a_damaged_lock_is_refused(device, tmp_path):
    recipient = device.do("key").strip()
    whole = lock(PLAN, [recipient])
    forgeries = [whole[:-1], whole[:200], b"", b"x" * 500, whole[:150] + b"x" + whole[151:]]
    for forged in [*forgeries, whole[:-20] + b"x" * 20]:
        bundle = locked_bundle(tmp_path / "bundle", content=forged)
        device.send(bundle)
        assert "model.plan.age: " in device.refuse("switch")
    (device.root / "identity").write_text("AGE-SECRET-KEY-1" + "Q" * 58)
    assert "no secret key of a device" in device.refuse("switch")
    assert "no secret key of a device" in device.refuse("key")


def test_a_bundle_has_one_plan(device, tmp_path):
    def add(manifest):
        manifest["files"]["model.plan"] = dict(manifest["files"]["edgekit-run"])

    both = make_bundle(tmp_path / "both", plan_name="model.plan.age", edit=add)
    neither = make_bundle(tmp_path / "neither", plan_name="other")
    for bundle, words in ((both, "model.plan beside model.plan.age"), (neither, "no model.plan")):
        (command, stdin), *_ = device.steps(bundle)
        assert words in device.refuse(*command[2:], stdin=stdin)


def test_a_service_that_may_not_read_the_secret_gets_the_plan(device, tmp_path):
    recipient = device.do("key").strip()
    device.install(locked_bundle(tmp_path / "bundle", recipient))
    run = tmp_path / "run"
    run.mkdir()
    if os.geteuid() == 0:
        os.chown(run, 4321, 4322)
    for _ in range(2):
        device.do("unlock", "a", str(run / "model.plan"))
    facts = (run / "model.plan").stat()
    assert stat.S_IMODE(facts.st_mode) == 0o400
    if os.geteuid() == 0:
        assert (facts.st_uid, facts.st_gid) == (4321, 4322)
        assert (run / "model.plan").read_bytes() == PLAN
    else:
        done = subprocess.run(["cat", run / "model.plan"], capture_output=True, check=True)
        assert done.stdout == PLAN
    assert "/missing: " in device.refuse("unlock", "a", str(tmp_path / "missing/model.plan"))
    assert "no such" in device.refuse("unlock", "b", str(run / "model.plan")).lower()
    assert sorted(os.listdir(run)) == ["model.plan"]


def test_a_plan_in_the_clear_needs_no_unlocking(device, tmp_path):
    device.install(make_bundle(tmp_path / "bundle", release=1))
    assert "not locked" in device.refuse("unlock", "a", str(tmp_path / "plan"))
    assert not (tmp_path / "plan").exists()
