"""Trains the DS-CNN of the benchmark on Fashion-MNIST and writes it as ONNX; one thread, a few minutes.

A stem of 32 channels and four depthwise-separable blocks (Zhang et al., "Hello Edge", https://arxiv.org/abs/1711.07128):
18.3 k parameters. The result is kept beside this script, so that nothing is trained where the benchmark runs. Needs
torch and Debian's ``dataset-fashion-mnist``.

    python benchmarks/ds_cnn/train.py --data /usr/share/datasets/fashion-mnist
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
import torch
from torch import nn

HERE = Path(__file__).parent
MEAN, DEVIATION = 0.286, 0.353


def read_images(folder: Path, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns images, normalized, as float32 [n, 1, 28, 28], and their classes; ``part`` is "train" or "t10k"."""
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        classes = np.frombuffer(file.read(), np.uint8, offset=8)
    images = (torch.from_numpy(pixels.copy()).float() / 255 - MEAN) / DEVIATION
    return images, torch.from_numpy(classes.copy()).long()


def conv(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(conv(inputs, inputs, 3, stride, inputs), conv(inputs, outputs, 1))


def make_network() -> nn.Sequential:
    return nn.Sequential(
        conv(1, 32, 3),
        block(32, 64, 1),
        block(64, 64, 2),
        block(64, 64, 1),
        block(64, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def train(network: nn.Module, images: torch.Tensor, classes: torch.Tensor, epochs: int) -> None:
    batch = 128
    steps = epochs * (len(images) // batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    network.train()
    for epoch in range(epochs):
        order = torch.randperm(len(images))
        for start in range(0, len(images) - batch + 1, batch):
            rows = order[start : start + batch]
            picture = images[rows]
            if torch.rand(()) < 0.5:
                picture = picture.flip(-1)
            loss = nn.functional.cross_entropy(network(picture), classes[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {epochs}: loss {loss.item():.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = make_network()
    print(f"{sum(p.numel() for p in network.parameters())} parameters")
    train(network, *read_images(arguments.data, "train"), arguments.epochs)
    network.eval()
    images, classes = read_images(arguments.data, "t10k")
    with torch.no_grad():
        right = sum(
            int((network(images[i : i + 500]).argmax(1) == classes[i : i + 500]).sum())
            for i in range(0, len(images), 500)
        )
    print(f"{right} of {len(images)} test images are right")
    torch.onnx.export(
        network,
        (images[:1],),
        HERE / "ds_cnn.onnx",
        input_names=["image"],
        output_names=["logits"],
        opset_version=18,
        dynamo=False,
    )


if __name__ == "__main__":
    main()
