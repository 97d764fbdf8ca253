"""Bundles of a small real network for the kind of machine that runs the tests: real programs, real answers."""

import hashlib
import json
import platform
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from signed_bundles import KEY

import edgekit
from edgekit.bundles.minisign import sign
from edgekit.bundles.release import release_bundle

# Any CPU of the machine's architecture runs its plans.
BOARD = {"x86_64": "x86-64-v2", "aarch64": "rpi4"}.get(platform.machine(), "host")


def write_network(path: Path, seed: int) -> Path:
    """Writes a network of two convolutions, a pool and a fully connected layer, of 75 kB in int8."""
    random = np.random.default_rng(seed)
    weights = {
        "stem.weight": random.normal(0, 0.3, (64, 3, 3, 3)),
        "wide.weight": random.normal(0, 0.1, (128, 64, 3, 3)),
        "head.weight": random.normal(0, 0.3, (10, 128)),
        "head.bias": random.normal(0, 0.2, 10),
    }
    tensors = [numpy_helper.from_array(a.astype(np.float32), name) for name, a in weights.items()]
    nodes = [
        helper.make_node("Conv", ["image", "stem.weight"], ["s"], "stem", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["s"], ["t"], "stem_relu"),
        helper.make_node("Conv", ["t", "wide.weight"], ["c"], "wide", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["r"], "wide_relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "head.weight", "head.bias"], ["y"], "head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def make_real_bundle(folder: Path, *, board: str = BOARD, release: int = 1) -> Path:
    """Deploys the network, whose weights differ from release to release, signed with the tests' key."""
    model = write_network(folder.with_suffix(".onnx"), release)
    samples = np.random.default_rng(1).random((8, 3, 16, 16), np.float32)
    edgekit.deploy(
        model,
        target=board,
        calibration={"image": samples},
        precision="int8",
        output=folder,
        release=release,
        sign_with=KEY,
    )
    return folder


def make_wrong_bundle(good: Path, folder: Path, release: int) -> Path:
    """Copies a bundle as a new release whose golden output is not what the network computes."""
    shutil.copytree(good, folder)
    release_bundle(folder, release=release)
    golden = folder / "golden/outputs/0.npy"
    content = bytearray(golden.read_bytes())
    content[-1] ^= 1
    golden.write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["golden/outputs/0.npy"]["sha256"] = hashlib.sha256(content).hexdigest()
    text = json.dumps(manifest, indent=2, sort_keys=True).encode()
    (folder / "manifest.json").write_bytes(text)
    (folder / "manifest.json.minisig").write_text(sign(text, KEY, "test").to_text())
    return folder
