"""RAUC bundles: RAUC itself checks and installs them, and edgekit-board what is in them."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from device_root import Device, find_program, make_device
from signed_bundles import make_bundle

from edgekit import EdgekitError, SignatureError
from edgekit.delivery.rauc_bundle import write_rauc_bundle

TOOLS = {
    "mksquashfs": "squashfs-tools",
    "openssl": "openssl",
    "veritysetup": "cryptsetup-bin",
    "rauc": "rauc",
    "dbus-daemon": "dbus-daemon",
}


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.environ["PATH"] + ":/usr/sbin:/sbin")
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} (Debian: {package})")


@dataclass(frozen=True)
class Signer:
    """Who signs for RAUC."""

    certificate: Path
    private_key: Path


def make_signer(folder: Path, name: str) -> Signer:
    signer = Signer(folder / f"{name}.crt.pem", folder / f"{name}.key.pem")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "7300",
            "-subj",
            f"/CN={name}",
            "-keyout",
            signer.private_key,
            "-out",
            signer.certificate,
        ],
        check=True,
        capture_output=True,
    )
    return signer


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    return make_signer(tmp_path_factory.mktemp("signer"), "team")


def make_signed(folder: Path, **changes: object) -> Path:
    return make_bundle(folder, board_program=find_program(), **({"release": 1} | changes))


def write(bundle: Path, output: Path, signer: Signer, **options: object) -> Path:
    return write_rauc_bundle(bundle, output, **vars(signer), **options)


def check(bundle: Path, keyring: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["rauc", "info", f"--keyring={keyring}", "--output-format=json", bundle],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("plain", [True, False])
def test_rauc_reads_what_is_written_and_it_is_the_same_each_time(
    tmp_path: Path, signer: Signer, plain: bool
) -> None:
    bundle = make_signed(tmp_path / "bundle", release=4)
    one = write(bundle, tmp_path / "one.raucb", signer, plain=plain)
    shutil.copytree(bundle, tmp_path / "elsewhere/bundle")
    two = write(tmp_path / "elsewhere/bundle", tmp_path / "two.raucb", signer, plain=plain)
    assert one.read_bytes() == two.read_bytes()
    told = check(one, signer.certificate)
    assert told.returncode == 0, told.stderr
    facts = json.loads(told.stdout)
    assert (facts["compatible"], facts["version"]) == ("edgekit-rpi4", "4")
    out = tmp_path / "out"
    subprocess.run(
        ["rauc", "extract", f"--keyring={signer.certificate}", one, out],
        check=True,
        capture_output=True,
    )
    for file in bundle.rglob("*"):
        if file.is_file():
            there = out / "bundle" / file.relative_to(bundle)
            assert there.read_bytes() == file.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("plain", [True, False])
def test_rauc_refuses_what_another_signed_and_what_was_changed(
    tmp_path: Path, signer: Signer, plain: bool
) -> None:
    bundle = make_signed(tmp_path / "bundle")
    written = write(bundle, tmp_path / "one.raucb", signer, plain=plain)
    other = make_signer(tmp_path, "other")
    assert check(written, other.certificate).returncode != 0
    content = bytearray(written.read_bytes())
    keyring = f"--keyring={signer.certificate}"
    # In the payload and in the signature.
    for place in (1000, len(content) - 100):
        changed = bytearray(content)
        changed[place] ^= 1
        (tmp_path / "changed.raucb").write_bytes(changed)
        done = subprocess.run(
            [
                "rauc",
                "extract",
                keyring,
                tmp_path / "changed.raucb",
                tmp_path / f"out-{place}",
            ],
            capture_output=True,
            check=False,
        )
        assert done.returncode != 0


def test_what_is_no_rauc_bundle(tmp_path: Path, signer: Signer) -> None:
    bundle = make_signed(tmp_path / "bundle")
    output = tmp_path / "one.raucb"
    with pytest.raises(EdgekitError, match="could not sign with"):
        write(bundle, output, Signer(signer.certificate, signer.certificate))
    with pytest.raises(EdgekitError, match="no such file"):
        write(bundle, output, Signer(tmp_path / "none.pem", signer.private_key))
    with pytest.raises(EdgekitError, match="letters, digits"):
        write(bundle, output, signer, compatible="a\nb")
    (bundle / "manifest.json.minisig").unlink()
    with pytest.raises(SignatureError, match="not signed"):
        write(bundle, output, signer)
    assert not output.exists()


@dataclass(frozen=True)
class RaucDevice:
    """A device that RAUC updates: its service on a bus of its own, and edgekit's root folder."""

    device: Device
    environment: dict[str, str]

    def install(self, bundle: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["rauc", "install", bundle],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=self.environment,
        )


@pytest.fixture
def rauc_device(tmp_path: Path, signer: Signer) -> Iterator[RaucDevice]:
    if os.geteuid() != 0:
        pytest.skip("RAUC mounts bundles, which only root may")
    if "squashfs" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no squashfs")
    device = make_device(tmp_path / "device")
    (tmp_path / "mount").mkdir()
    (tmp_path / "slot").touch()
    (tmp_path / "system.conf").write_text(
        f"[system]\ncompatible=edgekit-rpi4\nbootloader=noop\nmountprefix={tmp_path / 'mount'}\n"
        f"statusfile={tmp_path / 'status'}\n\n[keyring]\npath={signer.certificate}\n\n"
        f"[slot.rootfs.0]\ndevice={tmp_path / 'slot'}\ntype=raw\nbootname=system0\n"
    )
    # A socket's path holds at most 108 bytes, which pytest's folders exceed.
    bus = Path(f"/tmp/edgekit-bus-{os.getpid()}")
    bus.unlink(missing_ok=True)
    environment = os.environ | {
        "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={bus}",
        "EDGEKIT_ROOT": str(device.root),
    }
    daemon = subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address=unix:path={bus}"],
        stderr=subprocess.DEVNULL,
    )
    wait_for(bus.exists)
    service = subprocess.Popen(
        ["rauc", f"--conf={tmp_path / 'system.conf'}", "--override-boot-slot=system0", "service"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(
            lambda: (
                subprocess.run(
                    ["rauc", "status"], env=environment, capture_output=True, check=False
                ).returncode
                == 0
            )
        )
        yield RaucDevice(device, environment)
    finally:
        for process in (service, daemon):
            process.terminate()
            process.wait()
        bus.unlink(missing_ok=True)


def wait_for(done: object) -> None:
    end = time.monotonic() + 60
    while not done():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_rauc_hands_bundles_to_edgekit_board(
    rauc_device: RaucDevice, tmp_path: Path, signer: Signer
) -> None:
    device = rauc_device.device

    def install(name: str, signer: Signer = signer, **changes: object) -> tuple[bool, str]:
        bundle = make_signed(tmp_path / name, **changes)
        written = write(bundle, tmp_path / f"{name}.raucb", signer, plain=True)
        done = rauc_device.install(written)
        return done.returncode == 0, done.stdout + done.stderr

    assert install("one", release=1)[0]
    assert device.status["trial"] == "a"
    device.do("start")
    device.do("confirm")
    assert install("two", release=2)[0]
    assert device.status["trial"] == "b"
    device.do("start")
    device.do("confirm")
    # What RAUC takes and edgekit-board does not, and the other way round.
    good, said = install("old", release=1)
    assert not good
    assert "Launching update handler failed" in said
    assert not install("wrong", release=3, ending='echo wrong > "$out/0.npy"')[0]
    assert not install("stranger", make_signer(tmp_path, "stranger"), release=4)[0]
    status = device.status
    assert (status["active"], status["trial"], status["floor"]) == ("b", "-", 2)
    assert device.do("start").strip()[-1] == "b"
