"""Trains the benchmark's small networks on Fashion-MNIST and writes them as ONNX; one thread, some minutes.

The results are kept beside this script, ``ds_cnn/ds_cnn.onnx`` and ``cnn/cnn.onnx``, so that nothing is trained where a
benchmark runs. Needs torch and Debian's ``dataset-fashion-mnist``.

    python benchmarks/train_on_clothes.py cnn --data /usr/share/datasets/fashion-mnist
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Callable
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


def make_ds_cnn() -> nn.Sequential:
    """A stem of 32 channels and four depthwise-separable blocks: 18.3 k parameters.

    After Zhang et al., "Hello Edge", https://arxiv.org/abs/1711.07128.
    """
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


def make_cnn() -> nn.Sequential:
    """Three 3x3 convolutions of 16, 32 and 64 channels with pools of 2x2 between them: 24.2 k parameters."""
    return nn.Sequential(
        conv(1, 16, 3),
        nn.MaxPool2d(2),
        conv(16, 32, 3),
        nn.MaxPool2d(2),
        conv(32, 64, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


NETWORKS: dict[str, Callable[[], nn.Sequential]] = {"ds_cnn": make_ds_cnn, "cnn": make_cnn}


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
    parser.add_argument("network", choices=list(NETWORKS))
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = NETWORKS[arguments.network]()
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
    folder = HERE / arguments.network
    folder.mkdir(exist_ok=True)
    torch.onnx.export(
        network,
        (images[:1],),
        folder / f"{arguments.network}.onnx",
        input_names=["image"],
        output_names=["logits"],
        opset_version=18,
        dynamo=False,
    )


if __name__ == "__main__":
    main()
