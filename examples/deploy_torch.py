"""Deploys a PyTorch module: pip install 'edgekit[torch]', then python examples/deploy_torch.py."""

import numpy as np
import torch

import edgekit


class Net(torch.nn.Module):
    """Two convolutions and a classifier; yours is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = torch.nn.Sequential(
            torch.nn.Conv2d(1, 16, 3, stride=2, padding=1),
            torch.nn.BatchNorm2d(16),
            torch.nn.ReLU(),
            torch.nn.Conv2d(16, 32, 3, stride=2, padding=1),
            torch.nn.ReLU(),
        )
        self.head = torch.nn.Linear(32, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Returns the logits ``[batch, 10]`` of images ``[batch, 1, 28, 28]``."""
        return self.head(self.maps(image).mean((2, 3)))


def main() -> None:
    module, images = Net(), np.random.default_rng(0).random((64, 1, 28, 28), np.float32)
    examples = (torch.zeros(1, 1, 28, 28),)
    deployment = edgekit.deploy(module, example_inputs=examples, calibration=images)
    print(deployment.report)
    print(edgekit.load("dist/").run({"image": images[:4]}))


if __name__ == "__main__":
    main()
