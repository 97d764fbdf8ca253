"""A bundle is verified on a device that ssh reaches: its files, each layer and each output."""

from pathlib import Path

import pytest
from device_root import Device, make_device
from local_sshd import LocalSshd
from signed_bundles import KEY, PROGRAM
from typer.testing import CliRunner

from edgekit.cli import app
from edgekit.delivery.verify_on import verify_on
from edgekit.targets.errors import PlanError, SignatureError, ToolError


@pytest.fixture
def root(bundle: Path, tmp_path: Path) -> Device:
    """A device that has the bundle confirmed, with edgekit-board where `verify_on` looks for it."""
    device = make_device(tmp_path / "a device", "host")
    (device.root / "bin").mkdir()
    (device.root / "bin/edgekit-board").symlink_to(device.program)
    device.install(bundle)
    return device


@pytest.mark.slow
def test_a_bundle_is_verified_on_a_device(bundle: Path, root: Device, device: LocalSshd) -> None:
    address = device.url(root.root)
    key = root.root.parent / "key.pub"
    result = verify_on(bundle, address, key=key)
    assert result.ok
    assert len(result.layers) > 5
    assert len(result.outputs) == 1
    assert result.machine == address
    assert result.signer == KEY.public.name
    done = CliRunner().invoke(app, ["verify", str(bundle), "--on", address, "--key", str(key)])
    assert done.exit_code == 0, done.output
    assert f"host, {address}: equal" in done.output
    unsigned = bundle.parent / "unsigned"
    with pytest.raises(SignatureError):
        verify_on(copy_unsigned(bundle, unsigned), address, key=key)


def copy_unsigned(bundle: Path, folder: Path) -> Path:
    """Copies a bundle without its signature."""
    for file in bundle.rglob("*"):
        if file.is_file() and file.suffix != ".minisig":
            target = folder / file.relative_to(bundle)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return folder


@pytest.mark.slow
def test_what_is_not_as_it_was_is_told(bundle: Path, root: Device, device: LocalSshd) -> None:
    address = device.url(root.root)
    plan = root.root / "slots/a/model.plan"
    content = plan.read_bytes()
    plan.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(PlanError, match=r"slots/a/model.plan: missing or changed on the device"):
        verify_on(bundle, address)
    plan.unlink()
    with pytest.raises(PlanError, match=r"slots/a/model.plan: missing or changed on the device"):
        verify_on(bundle, address)
    plan.write_bytes(content)
    program = root.root / "slots/a/edgekit-run"
    program.write_text(PROGRAM)
    with pytest.raises(PlanError, match=r"slots/a/edgekit-run: missing or changed on the device"):
        verify_on(bundle, address)


@pytest.mark.slow
def test_another_bundle_is_told_from_this_one(
    bundle: Path, root: Device, device: LocalSshd, tmp_path: Path
) -> None:
    (root.root / "slots/a/manifest.json").write_text("{}")
    with pytest.raises(PlanError, match=r"not have this bundle \(release 1\) but .*: flash it"):
        verify_on(bundle, device.url(root.root))
    with pytest.raises(PlanError, match=r"nothing was ever flashed to /.*/nothing there"):
        verify_on(bundle, device.url(tmp_path / "nothing"))
    (root.root / "state").unlink()
    (root.root / "lock").unlink()
    with pytest.raises(ToolError, match="no device's folder"):
        verify_on(bundle, device.url(root.root))
