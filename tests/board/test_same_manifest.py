"""A manifest that edgekit takes is one that a device takes, and the other way round."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from device_root import Device, make_device
from hypothesis import example, given, settings
from hypothesis import strategies as st
from signed_bundles import BOARD, KEY
from small_bundles import make

from edgekit import PlanError
from edgekit.bundles.bundle import Bundle
from edgekit.bundles.manifest import read_limits, read_manifest, read_release
from edgekit.bundles.minisign import sign

COUNTS = st.one_of(
    st.integers(-2, 3).map(str),
    st.sampled_from([str(2**63 - 1), str(2**63), str(-(2**63)), "9" * 30, "0" * 2, "007"]),
    st.sampled_from(["-0", "1.0", "1e3", "NaN", "Infinity", "true", "null", '"1"', "[]", "{}", ""]),
)
PATHS = st.one_of(
    st.text("a./\\é\n\x7f\0 ", max_size=8),
    st.sampled_from(["a" * 255, "a" * 256, "/".join("a" * 16), "/".join("a" * 17), "é" * 128]),
    st.sampled_from(["/".join(["a" * 250] * 4), "/".join(["a" * 255] * 4 + ["a"])]),
    st.sampled_from(["model.plan/a", "golden", "manifest.json", "manifest.json.minisig"]),
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make(tmp_path_factory.mktemp("bundle") / "bundle", sign_with=KEY)


def takes(text: str) -> bool:
    """Returns whether edgekit takes a manifest."""
    try:
        manifest = read_manifest(Path("bundle"), content=text.encode())
        read_release(Path("bundle"), manifest)
        read_limits(Path("bundle"), manifest)
    except PlanError:
        return False
    return True


def board_takes(device: Device, text: str) -> bool:
    """Returns whether a device takes a manifest, well signed."""
    signature = sign(text.encode(), KEY, "test").to_text().encode()
    done = device.run("begin", str(len(signature)), stdin=signature + text.encode())
    error = done.stderr.decode()
    assert (done.returncode == 0) == (error == "")
    assert done.returncode == 0 or "manifest.json: " in error, error
    return done.returncode == 0


@settings(max_examples=60, deadline=None)
@given(key=st.sampled_from(["release", "latency_us", "memory_bytes"]), value=COUNTS)
@example(key="release", value="-0")
def test_counts(
    bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, key: str, value: str
) -> None:
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    table: dict[str, Any] = {"release": 1, "limits": {}}
    if key == "release":
        table["release"] = "HERE"
    else:
        table["limits"] = {key: "HERE"}
    text = json.dumps(manifest | table).replace('"HERE"', value)
    device = make_device(tmp_path_factory.mktemp("device") / "root")
    assert takes(text) == board_takes(device, text), value


@settings(max_examples=60, deadline=None)
@given(PATHS)
def test_paths(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    manifest["files"][path] = {"sha256": hashlib.sha256(b"").hexdigest(), "size": 0}
    text = json.dumps(manifest)
    device = make_device(tmp_path_factory.mktemp("device") / "root")
    assert takes(text) == board_takes(device, text), repr(path)


def test_the_bundle_itself_is_taken(bundle: Bundle, tmp_path: Path) -> None:
    assert bundle.target.name == BOARD
    text = (bundle.path / "manifest.json").read_text()
    assert takes(text)
    assert board_takes(make_device(tmp_path / "root"), text)
