"""The DaemonSet, checked by Kubernetes' own schema, and its image, whose containers are run in a chroot."""

import os
import shutil
import signal
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from device_root import Device, find_program
from fleet_bundles import BOARD, make_wrong_bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import EdgekitError, connect
from edgekit.delivery.fleet.kubernetes import Cluster, to_yaml, write_kubernetes
from edgekit.targets.errors import SignatureError

needs_chroot = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("busybox") is None,
    reason="needs root and busybox (Debian: busybox-static)",
)


def write(bundle, folder, **options):
    image = write_kubernetes(bundle, folder, Cluster(**options))
    return image, yaml.safe_load((folder / "daemonset.yaml").read_text())


def find_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Pod:
    """A node's folder, and the image unpacked as its Dockerfile says: busybox is the base."""

    def __init__(self, folder: Path, node: Path) -> None:
        self.folder = folder
        self.node = node
        self.root = folder / "rootfs"
        self.daemon_set = yaml.safe_load((folder / "daemonset.yaml").read_text())
        self.spec = self.daemon_set["spec"]["template"]["spec"]
        for name in ("bin", "tmp", "dev", "proc"):
            (self.root / name).mkdir(parents=True)
        shutil.copy(shutil.which("busybox"), self.root / "bin/busybox")
        subprocess.run(["chroot", self.root, "/bin/busybox", "--install", "-s", "/bin"], check=True)
        (self.root / "dev/null").touch()
        for line in (folder / "image/Dockerfile").read_text().splitlines():
            word, *paths = line.split()
            if word == "COPY":
                for path in paths[:-1]:
                    source, target = folder / "image" / path, self.root / paths[-1].lstrip("/")
                    if source.is_dir():
                        shutil.copytree(source, target)
                    else:
                        shutil.copy(source, target)
            else:
                assert word in ("ARG", "FROM")

    @contextmanager
    def mounted(self):
        """The node's folder where the manifest mounts it."""
        (volume,) = [row for row in self.spec["volumes"] if "hostPath" in row]
        where = self.root / volume["hostPath"]["path"].lstrip("/")
        where.mkdir(parents=True, exist_ok=True)
        mount = ["mount", "--bind", self.node, where]
        if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
            pytest.skip("this machine may not mount")
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", where], check=True)

    def start(self, kind: str, command: list[str] | None = None) -> subprocess.Popen[str]:
        """Starts a container's command, or another in that container."""
        (container,) = self.spec[kind]
        environment = {row["name"]: row["value"] for row in container["env"]}
        words = [shutil.which("chroot"), str(self.root), *(command or container["command"])]
        return subprocess.Popen(
            words,
            env={"PATH": "/bin", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def install(self) -> tuple[int, str]:
        process = self.start("initContainers")
        _, errors = process.communicate(timeout=60)
        return process.returncode, errors

    def probe(self, name: str) -> int:
        process = self.start("containers", self.spec["containers"][0][name]["exec"]["command"])
        process.communicate(timeout=30)
        return process.returncode

    @contextmanager
    def serving(self):
        process = self.start("containers")
        try:
            assert process.stdout.readline().startswith("serving at tcp:")
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


@pytest.fixture
def node(tmp_path):
    """The root folder of a node, which is empty."""
    folder = tmp_path / "node"
    folder.mkdir()
    return Device(folder, find_program())


def test_the_manifest_is_what_kubernetes_takes(bundles, public_key, tmp_path):
    validate = pytest.importorskip(
        "kubernetes_validate", reason="no kubernetes-validate (pip install kubernetes-validate)"
    )
    plain = write(bundles[1], tmp_path / "plain")[1]
    full = write(
        bundles[2],
        tmp_path / "full",
        name="cameras",
        namespace="edge",
        image="registry.lan:5000/models/cameras:2",
        labels={"example.com/camera": "yes", "floor": "2"},
        memory_mib=300,
        cpu="500m",
        key=public_key,
    )[1]
    for manifest in (plain, full):
        for version in ("1.25", "1.30", validate.latest_version()):
            validate.validate(manifest, version, strict=True)
        broken = yaml.safe_load(yaml.safe_dump(manifest))
        broken["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "Never"
        with pytest.raises(validate.ValidationError):
            validate.validate(broken, validate.latest_version(), strict=True)


def test_nodes_containers_and_limits_follow_from_the_bundle(bundles, public_key, tmp_path):
    image, manifest = write(bundles[2], tmp_path / "k", key=public_key)
    pod = manifest["spec"]["template"]["spec"]
    assert manifest["metadata"]["name"] == f"edgekit-{BOARD}"
    assert manifest["metadata"]["annotations"]["edgekit/release"] == "2"
    assert pod["nodeSelector"]["edgekit-board"] == BOARD
    assert pod["nodeSelector"]["kubernetes.io/arch"] in ("amd64", "arm64")
    assert {row["image"] for row in pod["initContainers"] + pod["containers"]} == {image}
    assert image.startswith(f"edgekit-{BOARD}:2-")
    assert pod["containers"][0]["resources"]["limits"] == {"memory": "512Mi"}
    assert (tmp_path / "k/image/key.pub").read_text() == public_key.read_text()
    # Written again, the folder is replaced, and has the same bytes.
    before = (tmp_path / "k/daemonset.yaml").read_bytes()
    write(bundles[2], tmp_path / "k", key=public_key)
    assert (tmp_path / "k/daemonset.yaml").read_bytes() == before


@needs_chroot
@pytest.mark.slow
def test_containers_install_serve_and_go_back(bundles, public_key, node, tmp_path):
    port = find_port()
    wrong = make_wrong_bundle(bundles[2], tmp_path / "wrong", 3)
    pods = {}
    for number, bundle in {**bundles, 3: wrong}.items():
        write(bundle, tmp_path / f"k{number}", port=port, key=public_key)
        pods[number] = Pod(tmp_path / f"k{number}", node.root)
    with pods[1].mounted():
        assert pods[1].install() == (0, "")
        assert node.status["trial"] == "a"
        assert pods[1].probe("startupProbe") == 1
        with pods[1].serving():
            assert pods[1].probe("startupProbe") == 0
            assert pods[1].probe("livenessProbe") == 0
            assert (node.status["active"], node.status["trial"]) == ("a", "-")
            session = connect(f"tcp://127.0.0.1:{port}")
            assert session.run(np.zeros((1, 3, 16, 16), np.float32))[session.outputs[0]].shape == (
                1,
                10,
            )
        # A container that starts anew installs nothing.
        assert pods[1].install() == (0, "")
    # A bundle that computes wrongly does not get past its init container.
    with pods[3].mounted():
        status, errors = pods[3].install()
        assert status == 1
        assert "has other bytes than the golden one" in errors
        assert node.status["active"] == "a"
    # One that is never confirmed is taken back by its fourth start.
    with pods[2].mounted():
        assert pods[2].install() == (0, "")
        served = []
        for _ in range(4):
            with pods[2].serving():
                served.append((pods[2].root / "tmp/slot").read_text().strip()[-1])
        assert served == ["b", "b", "b", "a"]
        assert (node.status["active"], node.status["trial"]) == ("a", "-")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "Big"}, "'Big' is no name"),
        ({"namespace": "a_b"}, "'a_b' is no namespace"),
        ({"image": "a b"}, "no name of an image"),
        ({"base": "x\nRUN y"}, "no name of an image"),
        ({"labels": {"a b": "c"}}, "'a b=c' is no label"),
        ({"labels": {"a": "b c"}}, "'a=b c' is no label"),
        ({"port": 0}, "0 is no port"),
        ({"root": "../x"}, "no absolute path"),
    ],
)
def test_what_kubernetes_would_not_take_is_refused(options, message):
    with pytest.raises(EdgekitError, match=message):
        Cluster(**options)


def test_what_is_there_is_not_lost(bundles, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(EdgekitError, match="not overwritten"):
        write(bundles[1], tmp_path / "full")
    copy = shutil.copytree(bundles[1], tmp_path / "copy")
    (copy / "manifest.json.minisig").unlink()
    with pytest.raises(SignatureError, match="not signed"):
        write(copy, tmp_path / "k")
    assert not (tmp_path / "k").exists()


# JSON writes what lies beyond as two halves, which YAML does not put together.
TEXTS = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=40)
VALUES = st.recursive(
    st.one_of(TEXTS, st.integers(), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=12,
)


@pytest.mark.slow
@settings(deadline=None)
@given(st.dictionaries(TEXTS, VALUES, min_size=1))
def test_what_is_written_as_yaml_is_read_as_the_same(value):
    assert yaml.safe_load(to_yaml(value)) == value
