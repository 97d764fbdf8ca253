"""Times edgekit's float32 kernels against ONNX Runtime's, one operator at a time, in turns, on one thread.

Each row is a model of a single operator at a size of EfficientNet-Lite0 or a transformer. Two ratios to ONNX Runtime's
median are printed: of the whole plan, which like ONNX Runtime's session takes the model's own NCHW order and so
transposes at both ends, and of the operator alone, as inside a network. Run it as `python
benchmarks/float_contest.py`.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from edgekit import _native
from edgekit.converters.calibrate import calibrate
from edgekit.converters.lower import lower
from edgekit.converters.passes import simplify
from edgekit.converters.quantize import quantize
from edgekit.converters.write_plan import write_plan

ROUNDS = 40
# (rows, k, n): products with a constant matrix.
PRODUCTS = [(1, 1280, 1000), (16, 768, 768), (128, 768, 768), (128, 768, 3072), (512, 512, 512)]
# (size, channels, outputs, kernel, stride, groups)
CONVOLUTIONS = [
    (224, 3, 32, 3, 2, 1),
    (112, 32, 16, 1, 1, 1),
    (56, 24, 144, 1, 1, 1),
    (28, 40, 240, 1, 1, 1),
    (14, 480, 112, 1, 1, 1),
    (7, 1152, 192, 1, 1, 1),
    (7, 320, 1280, 1, 1, 1),
    (28, 64, 64, 3, 1, 1),
    (112, 32, 32, 3, 1, 32),
    (112, 96, 96, 3, 2, 96),
    (56, 144, 144, 3, 1, 144),
    (56, 144, 144, 5, 2, 144),
    (28, 240, 240, 5, 1, 240),
    (28, 240, 240, 3, 2, 240),
    (14, 480, 480, 3, 1, 480),
    (14, 672, 672, 5, 1, 672),
    (14, 672, 672, 5, 2, 672),
    (7, 1152, 1152, 5, 1, 1152),
    (7, 1152, 1152, 3, 1, 1152),
]


def make_model(body: str, shape: tuple[int, ...], weights: np.ndarray) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["": 17]> net (float{list(shape)} x) => (float y) {{ {body} }}'
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    return onnx.shape_inference.infer_shapes(model)


def contest(
    name: str, body: str, shape: tuple[int, ...], weights: np.ndarray
) -> tuple[float, float]:
    """Prints one row; returns edgekit's time over ONNX Runtime's, of the whole plan and of the operator."""
    proto = make_model(body, shape, weights)
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, shape).astype(np.float32)
    model = ir.from_proto(proto)
    simplify(model)
    keep = {node.name or "": "benchmark" for node in model.graph}
    program = lower(quantize(model, calibrate(model, [{"x": x}]), keep_float=keep))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.plan"
        write_plan(program, path, isa=_native.best_isa(), target="host", source_digest="0" * 64)
        session = _native.Session(_native.Plan.open(path), 1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    peer = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    binding = peer.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y")
    np.testing.assert_allclose(
        session.run({"x": x})["y"], peer.run(None, {"x": x})[0], rtol=1e-3, atol=1e-3
    )
    times: dict[str, list[float]] = {"plan": [], "operator": [], "peer": []}
    kinds = [op.kind for op in program.ops]
    place = next(i for i, kind in enumerate(kinds) if kind.startswith("Float"))
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        session.run({"x": x})
        times["plan"].append(time.perf_counter() - begin)
        times["operator"].append(session.profile({"x": x}, repeats=1)[place][1])
        begin = time.perf_counter()
        peer.run_with_iobinding(binding)
        times["peer"].append(time.perf_counter() - begin)
    plan, operator, other = (
        1e6 * statistics.median(times[k]) for k in ("plan", "operator", "peer")
    )
    print(
        f"{name:34s} ONNX Runtime {other:9.1f} us   plan {plan:9.1f} us ({plan / other:5.2f})   "
        f"operator {operator:9.1f} us ({operator / other:5.2f})",
        flush=True,
    )
    return plan / other, operator / other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a part of the names to run")
    only = parser.parse_args().only
    print(
        f"{_native.best_isa()}, onnxruntime {onnxruntime.__version__}, one thread; ratios below 1: edgekit is faster"
    )
    rng = np.random.default_rng(1)
    groups: dict[str, list[tuple[float, float]]] = {
        "product": [],
        "convolution": [],
        "depthwise": [],
    }
    for rows, depth, count in PRODUCTS:
        name = f"product {rows}x{depth}x{count}"
        if only in name:
            w = rng.normal(0, 0.05, (depth, count)).astype(np.float32)
            groups["product"].append(contest(name, "y = MatMul (x, w)", (rows, depth), w))
    for size, channels, outputs, kernel, stride, parts in CONVOLUTIONS:
        kind = "depthwise" if parts > 1 else "convolution"
        name = f"{kind} {size}x{size}x{channels} {kernel}x{kernel}/{stride} {outputs}"
        if only in name:
            w = rng.normal(0, 0.1, (outputs, channels // parts, kernel, kernel)).astype(np.float32)
            pads = [kernel // 2] * 4
            body = f"y = Conv <group = {parts}, strides = {[stride] * 2}, pads = {pads}> (x, w)"
            groups[kind].append(contest(name, body, (1, channels, size, size), w))
    for kind, ratios in groups.items():
        if ratios:
            plan, operator = (
                math.exp(statistics.fmean(math.log(r[i]) for r in ratios)) for i in (0, 1)
            )
            print(
                f"{kind:12s} geometric mean: plan {plan:.2f}, operator {operator:.2f}; "
                f"worst operator {max(r[1] for r in ratios):.2f}"
            )


if __name__ == "__main__":
    main()
