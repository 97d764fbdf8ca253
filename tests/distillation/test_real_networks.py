"""Whole networks in torch answer as ONNX Runtime does, within the rounding of float32 sums."""

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="make test-torch has an environment with torch")

from networks_for_training import read  # noqa: E402

from edgekit.distillation import GraphNetwork  # noqa: E402
from networks import NETWORKS, UNTIMED, write_trained  # noqa: E402

# Power of the difference over that of the answers, its root.
CLOSE = 1e-5
# Its norms subtract the square of a mean from the mean of squares, which loses three digits in float32.
LOOSE = {"magika": 1e-3}
COUNT = 2


def compare(path, samples, close=CLOSE):
    network = GraphNetwork(read(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for sample in samples:
        wanted = session.run(None, dict(sample))
        with torch.no_grad():
            found = network({name: torch.from_numpy(array) for name, array in sample.items()})
        for name, array in zip(network.output_names, wanted, strict=True):
            given = found[name].numpy()
            assert given.shape == array.shape
            assert np.linalg.norm(given - array) <= close * np.linalg.norm(array), name


@pytest.mark.parametrize("name", ["ds_cnn", "cnn"])
def test_trained_here(name, tmp_path):
    write_trained(tmp_path / "net.onnx", name=name)
    images = np.random.default_rng(0).normal(0, 1, (COUNT, 1, 1, 28, 28)).astype(np.float32)
    compare(tmp_path / "net.onnx", [{"image": image} for image in images])


@pytest.mark.parametrize("network", [*NETWORKS, *UNTIMED], ids=lambda network: network.name)
def test_of_packages(network, tmp_path):
    path = tmp_path / f"net{network.suffix}"
    try:
        network.write(path)
        samples = network.read_samples(tmp_path)[:COUNT]
    except FileNotFoundError as error:
        pytest.skip(str(error))
    compare(path, samples, LOOSE.get(network.name, CLOSE))
