"""Times our GEMM kernels against ONNX Runtime's QLinearMatMul, in turns, on one thread.

    python benchmarks/gemm_peers.py [--shape MxKxN]... [--isa NAME] [--seconds S] [--json FILE]

Activations are uint8, weights int8 with a scale a column. Ours is the kernel that a plan for the instruction set would
hold, called through `edgekit._native`; the peer runs a model of that one node by IO binding, with all graph
optimizations. What one call of a session costs beside its work is measured on a product of 1x16x16 in the same turns
and taken off the peer's time; ours is left as it is. Needs edgekit, onnx and onnxruntime.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgekit import _native
from edgekit.timing import describe_machine
from turns import measure

SHAPES = (
    "1x1024x1024",
    "16x768x768",
    "128x768x768",
    "128x768x3072",
    "196x512x512",
    "784x256x256",
    "3136x64x64",
    "3136x24x144",
    "512x512x512",
    "2048x2048x2048",
)
SEED = 20240501
INPUT_ZERO_POINT = 120
OUTPUT_ZERO_POINT = 131


@dataclass(frozen=True)
class Problem:
    """One product: stored activations [m, k], weights [n, k] with a scale a column."""

    m: int
    k: int
    n: int
    a: np.ndarray
    w: np.ndarray
    scale: np.ndarray

    @classmethod
    def draw(cls, shape: str) -> Problem:
        """Returns a random problem of a shape MxKxN whose results fill the codes without clamping all."""
        m, k, n = (int(part) for part in shape.split("x"))
        random = np.random.default_rng(SEED)
        return cls(
            m,
            k,
            n,
            random.integers(0, 256, (m, k), dtype=np.uint8),
            # Small enough that every kernel is exact.
            random.integers(-64, 65, (n, k), dtype=np.int8),
            (random.uniform(0.5, 1, n) / (40 * math.sqrt(k))).astype(np.float32),
        )


@dataclass(frozen=True)
class Result:
    """Median microseconds of one shape, and the share of equal bytes."""

    shape: str
    kernel: str
    ours_us: float
    peer_us: float
    ratio: float
    equal: float


def build_model(problem: Problem) -> bytes:
    """Returns a model of one QLinearMatMul."""
    one = np.array(1, np.float32)
    constants = {
        "a_scale": one,
        "a_zero": np.array(INPUT_ZERO_POINT, np.uint8),
        "w": np.ascontiguousarray(problem.w.T),
        "w_scale": problem.scale,
        "w_zero": np.zeros(problem.n, np.int8),
        "y_scale": one,
        "y_zero": np.array(OUTPUT_ZERO_POINT, np.uint8),
    }
    node = helper.make_node("QLinearMatMul", ["a", *constants], ["y"])
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [problem.m, problem.k])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [problem.m, problem.n])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


def bind_peer(problem: Problem) -> tuple[Callable[[], object], np.ndarray]:
    """Returns a call of ONNX Runtime's session and the memory that it writes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(
        build_model(problem), options, providers=["CPUExecutionProvider"]
    )
    y = np.zeros((problem.m, problem.n), np.uint8)
    binding = session.io_binding()
    binding.bind_input("a", "cpu", 0, np.uint8, problem.a.shape, problem.a.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.uint8, y.shape, y.ctypes.data)
    return lambda: session.run_with_iobinding(binding), y


def prepare_ours(problem: Problem, isa: str) -> tuple[_native.Gemm, _native.KernelInfo]:
    """Returns our product, its input filled in, and the kernel that computes it."""
    fits = _native.pair_sums_fit_16(problem.w.reshape(problem.n, 1, problem.k))
    kernel = _native.select_gemm(isa, problem.m, problem.n, problem.k, 1, fits)
    # In codes, which are the model's values less 128.
    zero_share = (INPUT_ZERO_POINT - 128) * problem.w.astype(np.int32).sum(axis=1, dtype=np.int32)
    bounds = (OUTPUT_ZERO_POINT - 128, -128, 127)
    gemm = _native.Gemm(kernel.name, problem.m, problem.w, -zero_share, problem.scale, *bounds)
    gemm.a[...] = problem.a ^ _stored_shift(kernel)
    return gemm, kernel


def _stored_shift(kernel: _native.KernelInfo) -> np.uint8:
    """Returns the bits in which a stored value differs from the model's uint8."""
    return np.uint8(0 if kernel.storage == "u8" else 128)


def compare(shape: str, isa: str, seconds: float) -> Result:
    """Times one shape."""
    problem = Problem.draw(shape)
    ours, kernel = prepare_ours(problem, isa)
    peer, peer_codes = bind_peer(problem)
    empty, _ = bind_peer(Problem.draw("1x16x16"))
    times = measure({"ours": ours.run, "peer": peer, "empty": empty}, seconds)
    peer_us = times["peer"] - times["empty"]
    equal = float(np.mean(ours.y ^ _stored_shift(kernel) == peer_codes))
    return Result(shape, kernel.name, times["ours"], peer_us, peer_us / times["ours"], equal)


def main() -> None:
    """Prints the table and its geometric mean."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", action="append", metavar="MxKxN")
    parser.add_argument("--isa", help="default: the best of this machine, or EDGEKIT_ISA")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each shape")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    isa = arguments.isa or _native.best_isa()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(f"{describe_machine()}; {isa} against onnxruntime {onnxruntime.__version__}, 1 thread")
    print(f"{'m x k x n':>16} {'ours':>10} {'peer':>10} {'ratio':>6}  {'equal bytes':>11}  kernel")
    results = []
    for shape in arguments.shape or SHAPES:
        result = compare(shape, isa, arguments.seconds)
        results.append(result)
        print(
            f"{shape:>16} {result.ours_us:8.1f}us {result.peer_us:8.1f}us {result.ratio:6.2f}"
            f"  {100 * result.equal:9.3f} %  {result.kernel}",
            flush=True,
        )
    mean = math.exp(statistics.fmean(math.log(result.ratio) for result in results))
    least = min(result.ratio for result in results)
    print(f"geometric mean {mean:.2f}, least {least:.2f}")
    if arguments.json:
        content = {
            "machine": describe_machine().to_dict(),
            "isa": isa,
            "peer": f"onnxruntime {onnxruntime.__version__}",
            "python": platform.python_version(),
            "geometric_mean": mean,
            "least": least,
            "shapes": [asdict(result) for result in results],
        }
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
