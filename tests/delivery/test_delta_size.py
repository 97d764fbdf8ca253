"""How much of a real network travels when its last layers were trained further."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import edgekit
from edgekit.delivery.delta import make_delta

MOST_SHARE = 0.10
LAST_LAYERS = ("_conv_head.weight", "_fc.weight")
# By how much of its own deviation a weight moves in some epochs of fine-tuning with a small rate.
MOVED = 0.01


@pytest.mark.slow
def test_new_last_layers_are_a_tenth_of_the_bundle_at_most(tmp_path: Path) -> None:
    network = pytest.importorskip("efficientnet_lite0")
    try:
        network.find_weights(network.LITE0)
    except FileNotFoundError as error:
        pytest.skip(f"no weights: {error}")
    model = tmp_path / "old.onnx"
    network.build_model(model)
    random = np.random.default_rng(0)
    samples = random.normal(0, 0.7, (4, 3, 224, 224)).astype(np.float32)
    trained = onnx.load(model)
    moved = 0
    for weights in trained.graph.initializer:
        if weights.name in LAST_LAYERS:
            array = numpy_helper.to_array(weights)
            array = array + random.normal(0, MOVED * array.std(), array.shape)
            weights.CopyFrom(numpy_helper.from_array(array.astype(np.float32), weights.name))
            moved += 1
    assert moved == len(LAST_LAYERS)
    onnx.save(trained, tmp_path / "new.onnx")
    for name in ("old", "new"):
        edgekit.deploy(
            tmp_path / f"{name}.onnx",
            target="x86-64-v2",
            calibration={"image": samples},
            format="native",
            precision="int8",
            ranges="minmax",
            output=tmp_path / name,
        )
    sizes = make_delta(tmp_path / "old", tmp_path / "new", tmp_path / "x.delta")
    print(f"{sizes.delta} of {sizes.bundle} bytes, {sizes.share:.1%}")
    assert sizes.share < MOST_SHARE
