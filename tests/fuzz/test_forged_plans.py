"""No forged plan brings the loader or an operator down: a small part of what fuzz_plans.py does in minutes."""

import os
import random
import struct
import sys

import numpy as np
import onnx
import pytest
from forge import Forger
from fuzz_plans import fuzz

from edgekit import _native
from edgekit.converters.calibrate import calibrate
from edgekit.converters.can_hold import can_hold
from edgekit.converters.lower import lower
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.passes import simplify
from edgekit.converters.quantize import quantize
from edgekit.converters.read_onnx import read_onnx
from edgekit.converters.write_plan import write_plan

FORGERIES = 500
SEED = int(os.environ.get("EDGEKIT_SEED", "20240501"))

IMAGES = """images (float[1, 3, 16, 12] x) => (float[1, 4, 32, 24] y, float[1, 8] z) {
  stem = Conv <pads = [1, 1, 1, 1]> (x, stem_w)
  wide = Conv (stem, wide_w) wide_r = Relu (wide)
  deep = Conv <group = 16, pads = [1, 1, 1, 1]> (wide_r, deep_w) deep_r = HardSwish (deep)
  narrow = Conv (deep_r, narrow_w)
  sum = Add (narrow, stem)
  a, b = Split <axis = 1, num_outputs = 2> (sum)
  pool = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a)
  both = Concat <axis = 1> (pool, b)
  up = Resize <mode = "linear"> (both, empty, scales)
  shrunk = Conv <strides = [2, 2]> (up, half_w)
  y = ConvTranspose <strides = [2, 2]> (shrunk, up_w)
  mean = GlobalAveragePool (sum)
  flat = Flatten (mean)
  z = Softmax (flat)
}"""

ROWS = """rows (float[1, 5, 12] x) => (float[1, 5, 12] y) {
  norm = LayerNormalization <axis = -1> (x, scale, bias)
  left = MatMul (norm, square)
  turned = Transpose <perm = [0, 2, 1]> (norm)
  scores = MatMul (left, turned)
  soft = Softmax <axis = -1> (scores)
  seen = MatMul (soft, norm)
  gelu = Gelu (seen)
  length = ReduceL2 <keepdims = 1> (gelu, last)
  some = Add (length, one)
  y = Div (gelu, some)
}"""

# Answers as run_plans.cc does, by the module that is installed here.
RUN = """
import sys
import numpy as np
from edgekit import EdgekitError, _native
for threads, path in enumerate(sys.stdin):
    try:
        plan = _native.Plan.open(path.strip())
        most = max([plan.arena_size, *(tensor.dtype.itemsize * float(np.prod(tensor.shape, dtype=float))
                                       for tensor in plan.inputs + plan.outputs)])
        if most < 1 << 26:
            session = _native.Session(plan, 1 + threads % 2)
            session.run({tensor.name: np.ones(tensor.shape, tensor.dtype) for tensor in plan.inputs})
        print("ran", flush=True)
    except EdgekitError as error:
        print(" ".join(str(error).split()), flush=True)
"""


# What all layers of a plan have that can.
WHOLE = (
    NumberFormat.INT4,
    NumberFormat.INT16,
    NumberFormat.FLOAT16,
    NumberFormat.INT12,
    NumberFormat.INT12_WEIGHTS,
)

PRODUCTS = """products (float[1, 5, 12] x) => (float[1, 5, 12] y) {
  a = MatMul (x, square)
  b = MatMul (a, square)
  y = MatMul (b, square)
}"""


def make_plan(tmp_path, text, constants, shape, keep_float, asked=None):
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 20]> {text}')
    for name, array in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, tmp_path / "net.onnx")
    graph = read_onnx(tmp_path / "net.onnx")
    simplify(graph)
    rng = np.random.default_rng(0)
    learned = calibrate(
        graph, [{"x": rng.normal(0, 1, shape).astype(np.float32)} for _ in range(3)]
    )
    names = [node.name for node in graph.graph] if keep_float else []
    products = [node.name for node in graph.graph if node.op_type == "MatMul"]
    formats = (
        asked(graph.graph) if callable(asked) else dict(zip(products, asked or (), strict=False))
    )
    groups = {name: 32 for name in products if formats.get(name) is NumberFormat.INT4}
    quantized = quantize(
        graph,
        learned,
        method="minmax",
        keep_float=dict.fromkeys(names, "asked"),
        formats=formats,
        int4_groups=groups,
    )
    path = tmp_path / "net.plan"
    write_plan(
        lower(quantized, 1),
        path,
        isa=_native.best_isa(),
        target="host",
        source_digest="0" * 64,
        cache_bytes=512,
    )
    return path.read_bytes()


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    rng = np.random.default_rng(1)
    shapes = {
        "stem_w": (8, 3, 3, 3),
        "wide_w": (16, 8, 1, 1),
        "deep_w": (16, 1, 3, 3),
        "narrow_w": (8, 16, 1, 1),
        "half_w": (6, 8, 2, 2),
        "up_w": (6, 4, 2, 2),
    }
    images = {name: rng.normal(0, 0.4, shape) for name, shape in shapes.items()}
    images |= {"empty": np.zeros(0), "scales": np.array([1, 1, 2, 2])}
    rows = {"scale": np.ones(12), "bias": np.zeros(12), "one": np.ones(1)}
    rows["square"] = rng.normal(0, 0.4, (12, 12))
    images, rows = (
        {name: array.astype(np.float32) for name, array in constants.items()}
        for constants in (images, rows)
    )
    rows["last"] = np.array([-1], np.int64)
    folder = tmp_path_factory.mktemp("plans")
    kinds = (NumberFormat.INT4, NumberFormat.INT4_ROWS, NumberFormat.INT4_FLOAT)
    parts = (NumberFormat.INT12, NumberFormat.INT12_WEIGHTS, NumberFormat.INT8)

    def all_in(format):
        """Returns what gives each node of a graph that can have it this format."""

        def choose(graph):
            return {node.name: format for node in graph if can_hold(node, format) is None}

        return choose

    return [
        make_plan(folder, IMAGES, images, (1, 3, 16, 12), keep_float=False),
        make_plan(folder, IMAGES, images, (1, 3, 16, 12), keep_float=True),
        make_plan(folder, ROWS, rows, (1, 5, 12), keep_float=True),
        *(
            make_plan(
                folder, IMAGES, images, (1, 3, 16, 12), keep_float=False, asked=all_in(format)
            )
            for format in WHOLE
        ),
        *(
            make_plan(
                folder,
                PRODUCTS,
                {"square": rows["square"]},
                (1, 5, 12),
                keep_float=False,
                asked=formats,
            )
            for formats in (kinds, parts)
        ),
    ]


def test_the_plans_hold_what_is_to_be_forged(plans):
    kinds = {op.kind for plan in plans for op in _native.Plan.from_bytes(plan).ops}
    assert {"Conv", "DepthwiseConv", "Resize", "ConvTranspose", "Concat", "Slice"} <= kinds
    assert {"FloatConv", "FloatConvTranspose", "FloatDepthwiseConv", "FloatMatMul"} <= kinds
    assert {"FloatLayerNorm", "GroupFullyConnected", "Int4FullyConnected"} <= kinds
    assert {"WideConv", "WideDepthwiseConv", "QuantizeParts"} <= kinds
    ops = [op for plan in plans for op in Forger(plan).unpack().ops]
    assert {4, 8, 16, 32} <= {getattr(op.params, "weightBits", 8) for op in ops}
    if Forger(plans[0]).unpack().isa == b"x86_avx512vnni":
        assert any(getattr(op.params, "fused", None) for op in ops)


def test_forgeries_are_packed_well(plans):
    source = random.Random(SEED)
    forger = Forger(plans[0])
    for _ in range(20):
        forged = forger.forge(source)
        assert forged != plans[0]
        assert struct.unpack_from("<I", forged, 12)[0] == _native.crc32c(forged[16:])


def test_forged_plans_are_refused_or_run(plans, tmp_path):
    command = [sys.executable, "-c", RUN]
    findings = fuzz(plans, command, tmp_path, forgeries=FORGERIES, seconds=60.0, seed=SEED)
    assert not findings.kept, f"seed {SEED}: {findings.kept}"
    assert findings.answers["ran"] > 20
    assert len(findings.answers) > 30, "forgeries reach few of the loader's checks"


def test_a_fall_is_noticed(plans, tmp_path):
    command = [sys.executable, "-c", "import os; input(); os.abort()"]
    findings = fuzz(plans, command, tmp_path, forgeries=1, seconds=60.0, seed=SEED)
    assert len(findings.kept) == 1
