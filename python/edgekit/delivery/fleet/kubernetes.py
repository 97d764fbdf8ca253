"""A bundle for nodes of Kubernetes or K3s: a DaemonSet, and what its image is built from.

On each node that the DaemonSet selects, an init container hands the bundle to edgekit-board in a folder of the node,
which checks it as on any device; then the container serves the slot that is to run. A probe confirms the bundle once it
answers; a container that never does is started anew, and the fourth start is one of the former bundle.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit import targets
from edgekit.bundles.bundle import Bundle
from edgekit.delivery.fleet.signed_bundle import digest_manifest, read_signed
from edgekit.delivery.ssh import DEFAULT_ROOT
from edgekit.replace_folder import replace_folder
from edgekit.targets.errors import EdgekitError

MANIFEST_FILE = "daemonset.yaml"
IMAGE_FOLDER = "image"
SCRIPTS = Path(targets.__file__).parent / "fleet" / "kubernetes"
FLASH_SCRIPTS = Path(targets.__file__).parent / "flash"

# By `uname -m`, as Go and with it Kubernetes names processors.
_ARCHITECTURES = {
    "aarch64": "arm64",
    "x86_64": "amd64",
    "arm": "arm",
    "armv7l": "arm",
    "riscv64": "riscv64",
}
_CARRIERS = ("carry.sh", "dir.sh")
_SERVERS = ("serve.sh", "health.sh")
_SERVICE = "edgekit-service.sh"
_MIB = 1 << 20
# Beside what the network takes: the program, the shell and what a check holds.
_SPARE_MIB = 64
_DEFAULT_MIB = 512
# For what is being carried, and a plan that is locked for the device.
_SCRATCH_MIB = 256
# What Kubernetes takes as names (RFC 1123) and as labels.
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._:/@-]{0,254}")
_LABEL_KEY = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
)
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/._-]*")
_NOT_TEXT = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")


@dataclass(frozen=True)
class Cluster:
    """What the nodes look like.

    Attributes:
        name: Of the DaemonSet; by default edgekit and the board's name.
        namespace: Where it goes.
        image: The image's name, with a registry where there is one; by default made of board, release and digest.
        base: What the image is built on: any Linux with busybox's programs, of the nodes' architecture.
        root: Folder of the nodes.
        port: Where the model is served on each node's pod.
        labels: Labels of the nodes that are meant, besides their architecture; by default edgekit-board=BOARD.
        memory_mib: The most memory a container may take; by default what the bundle's limits say and some to spare.
        cpu: The most cores a container may take, as Kubernetes writes it; None for no limit.
        key: The public key that must have signed, and that nodes without a root folder will trust.
    """

    name: str | None = None
    namespace: str = "default"
    image: str | None = None
    base: str = "busybox:stable"
    root: str = DEFAULT_ROOT
    port: int = 7070
    labels: Mapping[str, str] = field(default_factory=dict)
    memory_mib: int | None = None
    cpu: str | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        names = [("name", self.name), ("namespace", self.namespace)]
        for what, word in names:
            if word is not None and not _NAME.fullmatch(word):
                raise EdgekitError(
                    f"'{word}' is no {what}: small letters, digits and hyphens, 63 at most"
                )
        for what, word in (("image", self.image), ("base", self.base)):
            if word is not None and not _IMAGE.fullmatch(word):
                raise EdgekitError(f"'{word}' is no name of an image ({what})")
        for key, value in self.labels.items():
            if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
                raise EdgekitError(f"'{key}={value}' is no label of a node")
        if not 1 <= self.port <= 65535:
            raise EdgekitError(f"{self.port} is no port: 1 to 65535")
        if not self.root.startswith("/") or ".." in self.root.split("/"):
            raise EdgekitError(f"'{self.root}' is no absolute path")


def write_kubernetes(bundle: Path, output: Path, cluster: Cluster) -> str:
    """Writes a folder with `daemonset.yaml` and `image`, a context to build the image from; returns the image's name.

    Raises:
        PlanError: The bundle is damaged.
        SignatureError: It is not signed, or not by the cluster's key.
        EdgekitError: Its architecture is none of Kubernetes', or `output` holds something else.
    """
    read = read_signed(bundle, cluster.key)
    if output.exists() and (not output.is_dir() or any(output.iterdir())) and not _is_ours(output):
        raise EdgekitError(f"{output}: not overwritten: it exists, and is none of these folders")
    image = cluster.image or _name_image(read)
    daemon_set = make_daemon_set(read, cluster)
    with replace_folder(output) as folder:
        (folder / MANIFEST_FILE).write_text(to_yaml(daemon_set), encoding="utf-8")
        context = folder / IMAGE_FOLDER
        shutil.copytree(bundle, context / "bundle")
        (context / "flash").mkdir()
        for name in _CARRIERS:
            shutil.copyfile(FLASH_SCRIPTS / name, context / "flash" / name)
        for name in _SERVERS:
            shutil.copyfile(SCRIPTS / name, context / name)
        shutil.copyfile(FLASH_SCRIPTS / "service" / _SERVICE, context / _SERVICE)
        if cluster.key is not None:
            shutil.copyfile(cluster.key, context / "key.pub")
        (context / "Dockerfile").write_text(_make_dockerfile(cluster), encoding="utf-8")
    return image


def make_daemon_set(bundle: Bundle, cluster: Cluster) -> dict[str, Any]:
    """Returns the manifest of a DaemonSet, apps/v1.

    Raises:
        EdgekitError: The bundle's architecture is none that Kubernetes names.
    """
    target = bundle.target
    if target.architecture not in _ARCHITECTURES:
        raise EdgekitError(f"{bundle.path}: Kubernetes has no name for {target.architecture}")
    name = cluster.name or f"edgekit-{re.sub('[^a-z0-9]+', '-', target.name.lower()).strip('-')}"
    image = cluster.image or _name_image(bundle)
    labels = {"app.kubernetes.io/name": name}
    selector = {
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": _ARCHITECTURES[target.architecture],
        **(cluster.labels or {"edgekit-board": target.name}),
    }
    facts = {
        "edgekit/release": str(bundle.release),
        "edgekit/manifest-sha256": digest_manifest(bundle.path),
    }
    pod = {
        "nodeSelector": selector,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 10,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [
            _make_container("install", image, _install_words(cluster), bundle, cluster)
        ],
        "containers": [
            _make_container("serve", image, ["sh", "/edgekit/serve.sh"], bundle, cluster)
            | {
                "ports": [{"name": "model", "containerPort": cluster.port}],
                "startupProbe": _probe(["--confirm"], 2, 60),
                "readinessProbe": {
                    "tcpSocket": {"port": "model"},
                    "periodSeconds": 10,
                },
                "livenessProbe": _probe([], 30, 3),
            }
        ],
        "volumes": [
            {"name": "root", "hostPath": {"path": cluster.root, "type": "DirectoryOrCreate"}},
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": f"{_SCRATCH_MIB}Mi"}},
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": name,
            "namespace": cluster.namespace,
            "labels": labels,
            "annotations": facts,
        },
        "spec": {
            "selector": {"matchLabels": labels},
            "minReadySeconds": 10,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "template": {"metadata": {"labels": labels, "annotations": facts}, "spec": pod},
        },
    }


def to_yaml(value: Any, indent: int = 0) -> str:
    """Writes tables, lists, texts, numbers and booleans as YAML.

    >>> print(to_yaml({"a": [{"b": 1, "c": "on"}], "d": {}}), end="")
    a:
    - b: 1
      c: "on"
    d: {}
    """
    space = "  " * indent
    lines = []
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(item, (Mapping, list)) and item:
                deeper = indent + 1 if isinstance(item, Mapping) else indent
                lines.append(f"{space}{_scalar(key)}:\n{to_yaml(item, deeper)}")
            else:
                lines.append(f"{space}{_scalar(key)}: {_scalar(item)}\n")
    else:
        for item in value:
            if isinstance(item, (Mapping, list)) and item:
                text = to_yaml(item, indent + 1)
                lines.append(f"{space}- {text.removeprefix(space + '  ')}")
            else:
                lines.append(f"{space}- {_scalar(item)}\n")
    return "".join(lines)


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT:
        return value
    return json.dumps(value)


def _name_image(bundle: Bundle) -> str:
    name = re.sub("[^a-z0-9]+", "-", bundle.target.name.lower()).strip("-")
    return f"edgekit-{name}:{bundle.release}-{digest_manifest(bundle.path)[:12]}"


def _install_words(cluster: Cluster) -> list[str]:
    key = ["--key", "/edgekit/key.pub"] if cluster.key is not None else []
    bundle = ["/edgekit/bundle", f"dir://{cluster.root}"]
    return ["sh", "/edgekit/flash/dir.sh", "--no-start", *key, *bundle]


def _make_container(
    name: str, image: str, command: list[str], bundle: Bundle, cluster: Cluster
) -> dict[str, Any]:
    memory = cluster.memory_mib
    if memory is None:
        said = bundle.limits.memory_bytes
        memory = -(-said // _MIB) + _SPARE_MIB if said else _DEFAULT_MIB
    limits = {"memory": f"{memory}Mi"} | ({} if cluster.cpu is None else {"cpu": cluster.cpu})
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "env": [
            {"name": "ROOT", "value": cluster.root},
            {"name": "PORT", "value": str(cluster.port)},
            {"name": "RUN", "value": "/tmp"},
        ],
        "resources": {"requests": {"memory": f"{memory}Mi", "cpu": "100m"}, "limits": limits},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "root", "mountPath": cluster.root},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _probe(words: list[str], period_s: int, failures: int) -> dict[str, Any]:
    return {
        "exec": {"command": ["sh", "/edgekit/health.sh", *words]},
        "periodSeconds": period_s,
        "timeoutSeconds": 10,
        "failureThreshold": failures,
    }


def _make_dockerfile(cluster: Cluster) -> str:
    files = [*_SERVERS, _SERVICE, *(["key.pub"] if cluster.key is not None else [])]
    return f"""ARG BASE={cluster.base}
FROM ${{BASE}}
COPY bundle /edgekit/bundle
COPY flash /edgekit/flash
COPY {" ".join(files)} /edgekit/
"""


def _is_ours(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()}
    return names == {MANIFEST_FILE, IMAGE_FOLDER}
