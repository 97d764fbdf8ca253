"""The artifact, read back by Mender's own tool, and the update module, run state by state as Mender's client does."""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from device_root import Device, find_program
from fleet_bundles import BOARD, make_wrong_bundle

from edgekit import EdgekitError
from edgekit.bundles.bundle_file import pack_bundle
from edgekit.delivery.fleet.mender import SCRIPTS, write_mender_artifact
from edgekit.targets.errors import SignatureError, ToolError

needs_mender = pytest.mark.skipif(
    shutil.which("mender-artifact") is None, reason="no mender-artifact (Debian: mender-artifact)"
)
STATE_SCRIPT = "ArtifactCommit_Enter_50_edgekit.sh"


class Client:
    """What Mender's client does with one artifact on one device.

    Source: "Update Modules" of Mender's client, file protocol and states of API version 3.
    """

    def __init__(self, device: Device, folder: Path, shell: str) -> None:
        self.device = device
        self.folder = folder
        self.shell = shell

    def module(self, state: str) -> subprocess.CompletedProcess[str]:
        return self.script(SCRIPTS / "edgekit.sh", state, str(self.folder))

    def script(self, path: Path, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "EDGEKIT_ROOT": str(self.device.root)}
        # Whether this machine has such a unit is nothing to the test.
        environment["EDGEKIT_SERVICE"] = "edgekit-test-of-no-unit.service"
        return subprocess.run(
            [*self.shell.split(), str(path), *words],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def download(self, payload: Path) -> None:
        """Lays out the files; a module that leaves `stream-next` alone finds the payload in `files`."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("files", "tmp", "header", "streams"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "version").write_text("3\n")
        (self.folder / "current_artifact_name").write_text("before\n")
        os.mkfifo(self.folder / "stream-next")
        assert self.module("Download").returncode == 0
        shutil.copyfile(payload, self.folder / "files/model.edgekit")

    def update(self, payload: Path, *, commits: bool = True) -> list[str]:
        """Runs the states of an update; returns those that were run."""
        ran = []

        def run(state: str) -> bool:
            ran.append(state)
            return self.module(state).returncode == 0

        self.download(payload)
        good = run("ArtifactInstall")
        assert self.module("NeedsArtifactReboot").stdout == "No\n"
        assert self.module("SupportsRollback").stdout == "Yes\n"
        if good:
            entered = self.script(SCRIPTS / STATE_SCRIPT).returncode == 0
            good = entered and commits and run("ArtifactCommit")
        if not good:
            assert run("ArtifactRollback")
            assert run("ArtifactFailure")
        assert run("Cleanup")
        return ran


@pytest.fixture(params=["sh", pytest.param("busybox sh", marks=pytest.mark.slow)])
def client(request, tmp_path, public_key):
    if shutil.which(request.param.split()[0]) is None:
        pytest.skip("no busybox (Debian: busybox-static)")
    device = Device(tmp_path / "root", find_program())
    device.do("init", BOARD, str(public_key))
    (device.root / "bin").mkdir()
    shutil.copy(device.program, device.root / "bin/edgekit-board")
    return Client(device, tmp_path / "mender", request.param)


@pytest.fixture
def payloads(bundles, tmp_path):
    wrong = make_wrong_bundle(bundles[2], tmp_path / "wrong", 3)
    folders = {**bundles, 3: wrong}
    return {
        number: pack_bundle(folder, tmp_path / f"{number}.edgekit")
        for number, folder in folders.items()
    }


@pytest.mark.slow
def test_an_update_goes_through_mender_s_states(client, payloads):
    states = ["ArtifactInstall", "ArtifactCommit", "Cleanup"]
    assert client.update(payloads[1]) == states
    status = client.device.status
    assert (status["active"], status["trial"], status["floor"]) == ("a", "-", 1)
    assert client.update(payloads[2]) == states
    assert client.device.status["active"] == "b"
    assert client.device.status["slots"]["b"]["release"] == 2
    assert not (client.folder / "tmp/bundle").exists()
    # The same once more changes nothing.
    assert client.update(payloads[2]) == states
    assert client.device.status["active"] == "b"


@pytest.mark.slow
def test_a_rollback_before_the_commit_leaves_the_old_bundle(client, payloads):
    client.update(payloads[1])
    ran = client.update(payloads[2], commits=False)
    assert ran == ["ArtifactInstall", "ArtifactRollback", "ArtifactFailure", "Cleanup"]
    status = client.device.status
    assert (status["active"], status["trial"]) == ("a", "-")
    assert "Mender rolls back" in client.device.log


def test_a_rollback_after_the_commit_goes_back_too(client, payloads):
    client.update(payloads[1])
    client.download(payloads[2])
    assert client.module("ArtifactInstall").returncode == 0
    assert client.module("ArtifactCommit").returncode == 0
    assert client.device.status["active"] == "b"
    # Another payload of the same deployment failed.
    for _ in range(2):
        assert client.module("ArtifactRollback").returncode == 0
        assert client.device.status["active"] == "a"


def test_a_bundle_that_computes_wrongly_is_not_installed(client, payloads):
    client.update(payloads[1])
    ran = client.update(payloads[3])
    assert ran == ["ArtifactInstall", "ArtifactRollback", "ArtifactFailure", "Cleanup"]
    assert "has other bytes" in client.device.log or "other bytes" in client.device.log
    status = client.device.status
    assert (status["active"], status["trial"], status["floor"]) == ("a", "-", 1)


def test_what_the_device_took_back_is_not_committed(client, payloads):
    client.update(payloads[1])
    client.download(payloads[2])
    assert client.module("ArtifactInstall").returncode == 0
    client.device.do("back", "the service found something")
    done = client.module("ArtifactCommit")
    assert done.returncode == 1
    assert "took the bundle back" in done.stderr
    assert client.module("ArtifactRollback").returncode == 0
    assert client.device.status["active"] == "a"


def test_what_went_wrong_is_told(client, payloads):
    (client.device.root / "bin/edgekit-board").unlink()
    client.download(payloads[1])
    done = client.module("ArtifactInstall")
    assert (done.returncode, done.stdout) == (1, "")
    assert "edgekit-board is missing: edgekit flash brings it" in done.stderr
    (client.folder / "files/model.edgekit").unlink()
    assert client.script(SCRIPTS / "edgekit.sh", "ArtifactInstall").returncode == 2
    assert "usage: edgekit STATE FILES" in client.script(SCRIPTS / "edgekit.sh", "--help").stdout
    # States of a later client are none of this module's business.
    assert client.module("ArtifactVerifyWeather").returncode == 0


@needs_mender
def test_mender_s_tool_reads_the_artifact(bundles, public_key, tmp_path):
    output = tmp_path / "out.mender"
    told = write_mender_artifact(
        bundles[2], output, device_types=["raspberrypi4", "raspberrypi4-64"], key=public_key
    )
    for line in (
        f"Name: edgekit-{BOARD}-2-",
        "Compatible devices: '[raspberrypi4 raspberrypi4-64]'",
        "Type:   edgekit",
        STATE_SCRIPT,
        "model.edgekit",
    ):
        assert line in told, told
    command = ["mender-artifact", "validate", str(output)]
    subprocess.run(command, check=True, capture_output=True)
    # What is in it is the bundle.
    with tarfile.open(output) as outer:
        data = next(name for name in outer.getnames() if name.startswith("data/"))
        with tarfile.open(fileobj=outer.extractfile(data)) as inner:
            payload = inner.extractfile("model.edgekit").read()
    assert payload == pack_bundle(bundles[2], tmp_path / "same.edgekit").read_bytes()
    damaged = bytearray(output.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    output.write_bytes(damaged)
    assert subprocess.run(command, check=False, capture_output=True).returncode != 0


@needs_mender
def test_an_artifact_may_be_signed_for_mender_too(bundles, tmp_path):
    key, public = tmp_path / "key.pem", tmp_path / "public.pem"
    make = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key]
    subprocess.run(make, check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    output = tmp_path / "out.mender"
    write_mender_artifact(bundles[1], output, device_types=["board"], mender_key=key)
    command = ["mender-artifact", "validate", "-k", str(public), str(output)]
    subprocess.run(command, check=True, capture_output=True)


def test_what_is_lacking_is_told(bundles, tmp_path, monkeypatch):
    output = tmp_path / "out.mender"
    copy = shutil.copytree(bundles[1], tmp_path / "copy")
    (copy / "manifest.json.minisig").unlink()
    if shutil.which("mender-artifact"):
        with pytest.raises(SignatureError, match="not signed"):
            write_mender_artifact(copy, output, device_types=["x"])
        with pytest.raises(EdgekitError, match="'a b' is no name"):
            write_mender_artifact(bundles[1], output, device_types=["a b"])
        with pytest.raises(EdgekitError, match="which devices may get it"):
            write_mender_artifact(bundles[1], output, device_types=[])
        stranger = tmp_path / "no.pem"
        stranger.write_text("nonsense")
        with pytest.raises(ToolError, match="mender-artifact sign: "):
            write_mender_artifact(bundles[1], output, device_types=["x"], mender_key=stranger)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="apt install mender-artifact"):
        write_mender_artifact(bundles[1], output, device_types=["x"])
    assert not output.exists()
