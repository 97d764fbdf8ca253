"""Deploys a PyTorch module: pip install 'edgekit[torch]', then python examples/deploy_torch.py."""

import numpy as np
import torch
from torch.nn import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, ReLU, Sequential

import edgekit


def main() -> None:
    # Two convolutions and a classifier; yours is trained.
    module = Sequential(
        Conv2d(1, 16, 3, stride=2, padding=1),
        BatchNorm2d(16),
        ReLU(),
        Conv2d(16, 32, 3, stride=2, padding=1),
        ReLU(),
        AdaptiveAvgPool2d(1),
        Flatten(),
        Linear(32, 10),
    )
    images = np.random.default_rng(0).random((64, 1, 28, 28), np.float32)
    example = torch.zeros(1, 1, 28, 28)
    deployment = edgekit.deploy(module, example_inputs=(example,), calibration=images)
    print(deployment.report)
    print(edgekit.load("dist/").run(images[:4]))


if __name__ == "__main__":
    main()
