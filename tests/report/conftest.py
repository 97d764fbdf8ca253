"""Reports, and a small classifier of pictures whose answers some samples change."""

import numpy as np
import onnx
import pytest
from made_reports import HOSTILE, make_report
from onnx import TensorProto, helper, numpy_helper


@pytest.fixture
def report():
    """A whole report with harmless names."""
    return make_report()


@pytest.fixture
def hostile():
    """A whole report whose names are markup."""
    return make_report(HOSTILE)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    """Path of a network that takes 1 x 12 x 12 to 4 classes, some of whose nodes have hostile names."""
    random = np.random.default_rng(0)
    tensors = {
        "kernel": random.normal(0, 0.5, (8, 1, 3, 3)),
        "weight": random.normal(0, 0.3, (4, 8)),
        "bias": np.zeros(4),
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["made"], "<script>alert(1)</script>"),
        helper.make_node("Relu", ["made"], ["active"], "[/red]relu"),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"], "head & tail", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 12, 12])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    path = tmp_path_factory.mktemp("classifier") / "classifier.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def pictures():
    """200 inputs of `classifier`, float32 [200, 1, 12, 12]."""
    random = np.random.default_rng(1)
    return random.normal(0, 1, (200, 1, 12, 12)).astype(np.float32)
