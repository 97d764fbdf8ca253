from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from local_sshd import LocalSshd, run_sshd
from signed_bundles import KEY

import edgekit

NETWORK = Path(__file__).parents[2] / "benchmarks/ds_cnn/ds_cnn.onnx"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network deployed to this machine and signed."""
    folder = tmp_path_factory.mktemp("deployed") / "bundle"
    inputs = np.random.default_rng(0).uniform(0, 1, (8, 1, 28, 28)).astype(np.float32)
    edgekit.deploy(NETWORK, calibration=inputs, output=folder, sign_with=KEY, ranges="minmax")
    return folder


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSshd]:
    """A server that all tests of a worker share."""
    with run_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def device(sshd: LocalSshd, monkeypatch: pytest.MonkeyPatch) -> LocalSshd:
    """The same, with EDGEKIT_SSH_OPTIONS set so that edgekit reaches it."""
    monkeypatch.setenv("EDGEKIT_SSH_OPTIONS", sshd.options)
    return sshd
