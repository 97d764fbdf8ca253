"""Small bundles that `write_bundle` writes: whole, except that plan and program are a few bytes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bundles.bundle import Bundle, write_bundle
from edgekit.bundles.golden import LayerDigest
from edgekit.bundles.manifest import BundleTarget
from edgekit.targets.profile import load_profile

TARGET = BundleTarget.from_profile(load_profile("rpi4"), "arm_neon")


def make(path: Path, **changes: Any) -> Bundle:
    """Writes a bundle; ``changes`` are arguments of `write_bundle`."""
    sources = path.parent / "sources"
    sources.mkdir(exist_ok=True)
    (sources / "a.plan").write_bytes(b"plan")
    (sources / "runner").write_bytes(b"program")
    (sources / "board").write_bytes(b"other program")
    arguments: dict[str, Any] = {
        "plan": sources / "a.plan",
        "runner": sources / "runner",
        "board_program": sources / "board",
        "target": TARGET,
        "inputs": {"../image:0": np.arange(6, dtype=np.float32).reshape(1, 2, 3)},
        "outputs": {"logits": np.zeros((1, 4), np.float32), "aux": np.ones(2, np.int64)},
        "digests": [LayerDigest("conv", "conv_out", "0" * 64), LayerDigest("fc", "y", "1" * 64)],
        "versions": {"edgekit": "0.1.0"},
        "origin": {"source": "ab" * 32, "calibration": {"samples": 8}},
        "extra": {"forms/model.onnx": b"onnx"},
    }
    return write_bundle(path, **(arguments | changes))


def edit_manifest(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Changes a bundle's manifest in place."""
    manifest = json.loads((path / "manifest.json").read_text())
    edit(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
