"""Debian packages: dpkg installs them, and edgekit-board decides on the device what is taken."""

import os
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from device_root import Device, find_program
from signed_bundles import KEY, make_bundle
from small_bundles import make
from staged_root import write_key

from edgekit import EdgekitError, SignatureError
from edgekit.building.programs import find_installed
from edgekit.bundles.manifest import BundleTarget
from edgekit.bundles.minisign import make_key
from edgekit.delivery.debian_package import write_debian_package
from edgekit.targets.profile import load_profile

PROGRAM = find_program()
NAME = "edgekit-model"


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.environ["PATH"] + ":/usr/sbin:/sbin")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write_key(tmp_path)


def make_package(folder: Path, key: Path, release: int, **changes: object) -> Path:
    """Writes a package of a bundle for this machine."""
    bundle = make_bundle(
        folder / f"bundle-{release}",
        release=release,
        board_program=PROGRAM,
        plan=bytes([release]) * 99,
        **changes,
    )
    return write_debian_package(bundle, folder / f"{release}.deb", key=key)


def need_dpkg() -> None:
    if shutil.which("dpkg") is None:
        pytest.skip("no dpkg")
    done = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    )
    if done.stdout.strip() not in ("amd64", "arm64"):
        pytest.skip("no bundles for this machine")


@dataclass(frozen=True)
class Installation:
    """A system that dpkg installs into.

    Attributes:
        root: What is / there.
        words: Options of dpkg.
    """

    root: Path
    words: tuple[str, ...]

    @property
    def device(self) -> Device:
        return Device(self.root / "var/lib/edgekit", PROGRAM)

    def dpkg(self, *words: str | Path, check: bool = True) -> str:
        done = subprocess.run(
            ["dpkg", f"--root={self.root}", *self.words, *words],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        )
        assert (done.returncode == 0) == check, done.stdout + done.stderr
        return done.stdout + done.stderr

    def is_configured(self) -> bool:
        told = self.dpkg("-s", NAME)
        return "Status: install ok installed" in told

    def confirm(self) -> str:
        """Does what the service does; returns the slot."""
        slot = self.device.do("start").strip()[-1]
        self.device.do("confirm", slot)
        return slot


def make_chroot(root: Path) -> Installation:
    """A root folder with busybox alone, into which dpkg changes its root."""
    if os.geteuid() != 0:
        pytest.skip("only root may change its root")
    busybox = shutil.which("busybox")
    if busybox is None or b"/lib64/ld-linux" in Path(busybox).read_bytes():
        pytest.skip("no static busybox (Debian: busybox-static)")
    for folder in ("bin", "dev", "tmp", "var/lib/dpkg/info", "var/lib/dpkg/updates"):
        (root / folder).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    for applet in listed.stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "dev/null").touch()
    (root / "var/lib/dpkg/status").touch()
    return Installation(root, ())


def make_folder(root: Path) -> Installation:
    """A root folder whose scripts run outside of it, as an image is made."""
    (root / "var/lib/dpkg/info").mkdir(parents=True)
    (root / "var/lib/dpkg/updates").mkdir()
    (root / "var/lib/dpkg/status").touch()
    return Installation(root, ("--force-not-root", "--force-script-chrootless"))


@pytest.fixture(params=[make_chroot, make_folder])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Installation:
    need_dpkg()
    make: Callable[[Path], Installation] = request.param
    return make(tmp_path / "system")


@pytest.mark.slow
def test_a_package_brings_a_bundle_to_edgekit_board(
    installation: Installation, key: Path, tmp_path: Path
) -> None:
    device = installation.device
    one = make_package(tmp_path, key, 1)
    installation.dpkg("-i", one)
    assert installation.is_configured()
    assert (device.status["trial"], device.status["board"]) == ("a", "rpi4")
    assert (device.root / "bin/edgekit-board").read_bytes() == PROGRAM.read_bytes()
    assert os.access(device.root / "bin/edgekit-service", os.X_OK)
    assert installation.confirm() == "a"
    # What runs already is not brought again.
    installation.dpkg("-i", one)
    assert (device.status["active"], device.status["trial"]) == ("a", "-")
    installation.dpkg("-i", make_package(tmp_path, key, 2))
    assert device.status["trial"] == "b"
    assert installation.confirm() == "b"
    # An older release, and one that computes something else here, leave what runs.
    told = installation.dpkg("-i", one, check=False)
    assert "this device takes none before 2" in told
    assert not installation.is_configured()
    wrong = make_package(tmp_path, key, 3, ending='echo wrong > "$out/0.npy"')
    assert "has other bytes than the golden one" in installation.dpkg("-i", wrong, check=False)
    assert (device.status["active"], device.status["trial"]) == ("b", "-")
    assert device.do("start").strip()[-1] == "b"
    # A better one configures the package again.
    installation.dpkg("-i", make_package(tmp_path, key, 4))
    assert installation.is_configured()
    assert installation.confirm() == "a"
    installation.dpkg("-r", NAME)
    assert device.status["active"] == "a"
    assert not (installation.root / "usr/lib/edgekit").exists()
    installation.dpkg("-P", NAME)
    assert not device.root.exists()


@pytest.mark.slow
def test_a_purge_leaves_what_came_another_way(
    installation: Installation, key: Path, tmp_path: Path
) -> None:
    device = installation.device
    device.root.mkdir(parents=True)
    device.do("init", "rpi4", str(key))
    installation.dpkg("-i", make_package(tmp_path, key, 1))
    installation.dpkg("-P", NAME)
    assert device.status["trial"] == "a"


@pytest.mark.slow
def test_a_device_takes_only_its_own_keys(
    installation: Installation, key: Path, tmp_path: Path
) -> None:
    device = installation.device
    other = tmp_path / "other.pub"
    other.write_text(make_key().public.to_text())
    device.root.mkdir(parents=True)
    device.do("init", "rpi4", str(other))
    told = installation.dpkg("-i", make_package(tmp_path, key, 1), check=False)
    assert "not signed for this device" in told
    assert device.status["trial"] == "-"


def test_a_package_is_the_same_each_time_and_what_dpkg_reads(key: Path, tmp_path: Path) -> None:
    packages = []
    for place in ("one", "another place"):
        (tmp_path / place).mkdir()
        bundle = make_bundle(tmp_path / place / "bundle", release=7, board_program=PROGRAM)
        packages.append(
            write_debian_package(
                bundle,
                tmp_path / place / "x.deb",
                key=key,
                maintainer="Ann Example <ann@example.org>",
            )
        )
    assert packages[0].read_bytes() == packages[1].read_bytes()
    if shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb")

    def ask(*words: str) -> str:
        return subprocess.run(
            ["dpkg-deb", *words], capture_output=True, text=True, check=True
        ).stdout

    assert ask("-f", str(packages[0]), "Package", "Version", "Maintainer").splitlines() == [
        "Package: edgekit-model",
        "Version: 7",
        "Maintainer: Ann Example <ann@example.org>",
    ]
    out = tmp_path / "out"
    ask("-x", str(packages[0]), str(out))
    bundle = tmp_path / "one/bundle"
    for file in bundle.rglob("*"):
        if file.is_file():
            there = out / "usr/lib/edgekit/bundle" / file.relative_to(bundle)
            assert there.read_bytes() == file.read_bytes()
    assert os.access(out / "usr/lib/edgekit/bundle/edgekit-run", os.X_OK)
    unit = (out / "usr/lib/systemd/system/edgekit.service").read_text()
    assert "/run/edgekit unix:/run/edgekit/socket 4\n" in unit
    listed = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", packages[0]], capture_output=True, check=True
    )
    (tmp_path / "data.tar").write_bytes(listed.stdout)
    with tarfile.open(tmp_path / "data.tar") as archive:
        members = archive.getmembers()
    assert {(member.uid, member.gid, member.mtime) for member in members} == {(0, 0, 1577836800)}
    assert {member.mode for member in members} <= {0o755, 0o644}


@pytest.mark.slow
def test_lintian_finds_no_error(key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("lintian") is None:
        pytest.skip("no lintian")
    if platform.machine() != "x86_64":
        pytest.skip("this machine's programs are not those of an x86-64 package")
    monkeypatch.setenv("DEBFULLNAME", "Ann Example")
    monkeypatch.setenv("DEBEMAIL", "ann@debian.org")
    bundle = make(
        tmp_path / "bundle",
        target=BundleTarget.from_profile(load_profile("x86-64-v2"), "generic"),
        runner=find_installed("bin/edgekit-run"),
        board_program=PROGRAM,
        sign_with=KEY,
    )
    package = write_debian_package(bundle.path, tmp_path / "x.deb", key=key)
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", package],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_no_package(key: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", release=1, board_program=PROGRAM)
    output = tmp_path / "x.deb"
    for options, match in (
        ({"package": "Edgekit"}, "no name of a package"),
        ({"package": "x"}, "too short"),
        ({"version": "v1"}, "begins with a digit"),
        ({"version": "1 2"}, "begins with a digit"),
        ({"maintainer": "nobody"}, "no maintainer"),
        ({"maintainer": "a <a@b>\nDepends: evil"}, "one line"),
    ):
        with pytest.raises(EdgekitError, match=match):
            write_debian_package(bundle, output, key=key, **options)
    other = tmp_path / "other.pub"
    other.write_text(make_key().public.to_text())
    with pytest.raises(SignatureError, match=f"not by {make_name(other)}"):
        write_debian_package(bundle, output, key=other)
    (bundle / "manifest.json.minisig").unlink()
    with pytest.raises(SignatureError, match="not signed"):
        write_debian_package(bundle, output, key=key)
    assert not output.exists()


def make_name(key: Path) -> str:
    return key.read_text().split()[-2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("triple", "architecture"),
    [
        ("aarch64-linux-gnu", "arm64"),
        ("arm-linux-gnueabihf", "armhf"),
        ("x86_64-linux-gnu", "amd64"),
        ("riscv64-linux-gnu", "riscv64"),
    ],
)
def test_the_architecture_is_the_board_s(
    key: Path, tmp_path: Path, triple: str, architecture: str
) -> None:
    def edit(manifest: dict[str, dict[str, object]]) -> None:
        manifest["target"]["triple"] = triple

    bundle = make_bundle(tmp_path / "bundle", release=1, board_program=PROGRAM, edit=edit)
    package = write_debian_package(bundle, tmp_path / "x.deb", key=key)
    content = package.read_bytes()
    assert content.startswith(
        b"!<arch>\ndebian-binary   1577836800  0     0     100644  4         `\n2.0\n"
    )
    if shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb")
    told = subprocess.run(
        ["dpkg-deb", "-f", package, "Architecture"], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == architecture
