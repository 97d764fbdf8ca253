"""Signed bundles of a real network: DS-CNN with the programs of a Raspberry Pi 4, a second to make and 0.9 MB."""

from pathlib import Path

import numpy as np
from signed_bundles import KEY

import edgekit

NETWORK = Path(__file__).parents[2] / "benchmarks/ds_cnn/ds_cnn.onnx"
TARGET = "rpi4"
CPU = "cortex-a72"


def deploy_ds_cnn(folder: Path, release: int, target: str = TARGET) -> Path:
    """Writes a bundle; each release computes something else, since it was calibrated otherwise."""
    inputs = np.random.default_rng(release).uniform(0, release, (16, 1, 28, 28))
    edgekit.deploy(
        NETWORK,
        target=target,
        calibration=inputs.astype(np.float32),
        output=folder,
        release=release,
        sign_with=KEY,
    )
    return folder
