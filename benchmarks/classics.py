"""Networks for their structure alone: the classic ones that the onnx package carries, with made-up weights.

Their files hold the shape of each weight and nothing of its values (``onnx/backend/test/data/light``).
"""

from __future__ import annotations

import math
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit.data import Sample
from networks import Network

_FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
_NAMES = ("densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet")
# Of hundreds of megabytes of weights.
_LARGE_NAMES = ("bvlc_alexnet", "vgg19", "zfnet512")


def write_classic(path: Path, name: str) -> None:
    """Writes a network with weights drawn such that values keep their size from layer to layer."""
    model = onnx.load(_FOLDER / f"light_{name}.onnx")
    shapes = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in shapes:
            nodes.append(node)
            continue
        shape = [int(n) for n in shapes[node.input[0]]]
        random = np.random.default_rng(zlib.crc32(node.output[0].encode()))
        spread = math.sqrt(2 / max(1, math.prod(shape[1:])))
        # Of one dimension are biases and the parts of normalizations, variances among them.
        low, high = (0.5, 1.0) if len(shape) == 1 else (-spread * 1.7, spread * 1.7)
        values = random.uniform(low, high, shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)


def read_noise(folder: Path) -> list[Sample]:
    """Returns normal noise for the inputs of ``source.onnx`` in ``folder``."""
    model = onnx.load(folder / "source.onnx", load_external_data=False)
    constants = {tensor.name for tensor in model.graph.initializer}
    random = np.random.default_rng(0)
    inputs = [value for value in model.graph.input if value.name not in constants]
    shapes = {
        value.name: [d.dim_value or 1 for d in value.type.tensor_type.shape.dim] for value in inputs
    }
    return [
        {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        for _ in range(2)
    ]


def _make_networks(names: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(
        Network(name, True, partial(write_classic, name=name), read_noise, "noise")
        for name in names
    )


CLASSICS = _make_networks(_NAMES)
LARGE_CLASSICS = _make_networks(_LARGE_NAMES)
