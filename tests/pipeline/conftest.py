"""A network, its bundle, a bundle of a worse one, and samples with labels."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import edgekit
from edgekit.converters.write_plan import write_plan

CLASSES = 4
COUNT = 600


@pytest.fixture(scope="session")
def samples() -> Any:
    """Float32 [600, 6]: around one of four corners each."""
    random = np.random.default_rng(2)
    corners = np.eye(CLASSES, 6, dtype=np.float32)
    return corners[np.arange(COUNT) % CLASSES] + random.normal(0, 0.2, (COUNT, 6)).astype(
        np.float32
    )


@pytest.fixture(scope="session")
def answers() -> Any:
    """The corner of each sample."""
    return np.arange(COUNT) % CLASSES


def write_network(path: Path, weights: Any) -> Path:
    """Writes a layer that names the largest of four sums."""
    node = helper.make_node("Gemm", ["x", "weights"], ["y"], "layer")
    graph = helper.make_graph(
        [node],
        "corners",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(np.asarray(weights, np.float32), "weights")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path
    )
    return path


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, samples: Any, answers: Any) -> Path:
    """A user's folder: float.onnx, bundle, worse, which misses a class, samples.npz, labels.npy, and board.plan."""
    folder = tmp_path_factory.mktemp("gate")
    right = np.eye(6, CLASSES)
    wrong = right.copy()
    wrong[:, 3] = 0.0
    for name, weights in (("bundle", right), ("worse", wrong)):
        model = write_network(folder / f"{name}.onnx", weights)
        deployment = edgekit.deploy(
            model,
            calibration=samples[:64],
            output=folder / name,
            precision="int8",
            ranges="minmax",
        )
        assert deployment.program is not None
        write_plan(
            deployment.program,
            folder / "board.plan",
            isa="arm_neondot",
            target="rpi5",
            source_digest="none",
        )
    (folder / "bundle.onnx").rename(folder / "float.onnx")
    np.savez(folder / "samples.npz", x=samples)
    np.save(folder / "labels.npy", answers)
    return folder
