"""A small network, lowered, and bundles of it for any board. Its golden vectors come from the numpy judge."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit import _native
from edgekit.building.programs import build_programs
from edgekit.bundles.bundle import Bundle, write_bundle
from edgekit.bundles.golden import LayerDigest
from edgekit.bundles.manifest import BundleTarget
from edgekit.converters.calibrate import calibrate
from edgekit.converters.lower import lower
from edgekit.converters.passes import simplify
from edgekit.converters.program import Program
from edgekit.converters.quantize import quantize
from edgekit.converters.read_onnx import read_onnx
from edgekit.converters.reference import run_program
from edgekit.converters.write_plan import write_plan
from edgekit.targets.profile import load_profile
from edgekit.targets.toolchain import Toolchain

SOURCE_DIGEST = "5" * 64


def make_model() -> onnx.ModelProto:
    """Convolution, depthwise convolution, residual sum, pooling and a fully connected layer with softmax."""
    rng = np.random.default_rng(7)
    initializers = []

    def constant(name: str, *shape: int) -> str:
        values = rng.normal(0, 0.3, shape).astype(np.float32)
        initializers.append(numpy_helper.from_array(values, name))
        return name

    def layer(op: str, name: str, x: str, *shape: int, **attributes: object) -> onnx.NodeProto:
        inputs = [x, constant(f"{name}_w", *shape), constant(f"{name}_b", shape[0])]
        return helper.make_node(op, inputs, [name], name=name, **attributes)

    three = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        layer("Conv", "stem", "image", 19, 3, 3, 3, strides=[2, 2], **three),
        helper.make_node("Relu", ["stem"], ["stem_relu"]),
        layer("Conv", "depthwise", "stem_relu", 19, 1, 3, 3, group=19, **three),
        helper.make_node("Relu", ["depthwise"], ["depthwise_relu"]),
        layer("Conv", "project", "depthwise_relu", 19, 19, 1, 1),
        helper.make_node("Add", ["project", "stem_relu"], ["sum"], name="sum"),
        layer("Conv", "wide", "sum", 37, 19, 1, 1),
        helper.make_node("GlobalAveragePool", ["wide"], ["mean"], name="mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], name="flatten"),
        layer("Gemm", "classify", "flat", 11, 37, transB=1),
        helper.make_node("Softmax", ["classify"], ["scores"], name="softmax", axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 17, 15])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 11])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model


def make_samples(count: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(11)
    return [{"image": rng.normal(size=(1, 3, 17, 15)).astype(np.float32)} for _ in range(count)]


@pytest.fixture(scope="session")
def small_samples() -> list[dict[str, np.ndarray]]:
    return make_samples(8)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> ir.Model:
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    onnx.save(make_model(), path)
    model = read_onnx(path)
    simplify(model)
    return model


@pytest.fixture(scope="session")
def small_program(small_model: ir.Model, small_samples: list[dict[str, np.ndarray]]) -> Program:
    return lower(quantize(small_model, calibrate(small_model, small_samples)))


@pytest.fixture
def make_bundle(tmp_path: Path, small_program: Program) -> Callable[..., Bundle]:
    """Makes a bundle of the small or another network for a board, with programs by the given or the first compiler."""

    def make(
        board: str,
        toolchain: Toolchain | None = None,
        program: Program = small_program,
        inputs: Mapping[str, np.ndarray] | None = None,
    ) -> Bundle:
        profile = load_profile(board)
        isa = _native.best_isa() if profile.isa == "auto" else profile.isa
        plan = tmp_path / f"{board}.plan"
        write_plan(program, plan, isa=isa, target=board, source_digest=SOURCE_DIGEST)
        given = make_samples(1)[0] if inputs is None else inputs
        tensors = run_program(program, given)
        programs = build_programs(profile, toolchain=toolchain)
        return write_bundle(
            tmp_path / f"{board}-bundle",
            plan=plan,
            runner=programs.runner,
            board_program=programs.board,
            target=BundleTarget.from_profile(profile, isa),
            inputs=given,
            outputs={name: tensors[name] for name in program.outputs},
            digests=[
                LayerDigest(
                    op.name, op.output, hashlib.sha256(tensors[op.output].tobytes()).hexdigest()
                )
                for op in program.ops
            ],
            versions={"edgekit": "0.1.0"},
            origin={"source_digest": SOURCE_DIGEST},
        )

    return make
