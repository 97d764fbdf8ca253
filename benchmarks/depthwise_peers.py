"""Times our depthwise kernels against other runtimes' int8 models of that one operator, in turns, on one thread.

    python benchmarks/depthwise_peers.py [--image HxWxC]... [--window K/S]... [--isa NAME] [--seconds S] [--json FILE]

All take uint8 (LiteRT int8) activations with the real zero at the lowest code, as behind a Relu6, int8 weights with a
scale a channel, and write the same. Each peer gets the form that it runs fastest: ONNX Runtime a QLinearConv in NHWC
and one in NCHW, OpenVINO a QDQ model with NHWC and with NCHW borders, LiteRT (XNNPACK) a TFLite DEPTHWISE_CONV_2D; the
better of a peer's two counts. What one call of a session costs beside its work is measured on an image of 1x1x16 in the
same turns and taken off the peer's time; ours, the op that a plan for the instruction set would hold, called through
`edgekit._native`, is left as it is. Needs edgekit, onnx and at least one of onnxruntime, openvino and ai_edge_litert.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import math
import os
import platform
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edgekit import _native
from edgekit.timing import describe_machine
from turns import measure

IMAGES = ("112x112x96", "56x56x144", "28x28x240", "14x14x672", "7x7x1152")
WINDOWS = ("3/1", "3/2", "5/1", "5/2")
SEED = 20240501
LOWEST = -128

Bound = tuple[Callable[[], object], Callable[[], np.ndarray]]


@dataclass(frozen=True)
class Problem:
    """One layer: codes x [h, w, c], weights [c, k, k] with a scale a channel, padding of half a window."""

    x: np.ndarray
    w: np.ndarray
    scale: np.ndarray
    stride: int

    @classmethod
    def draw(cls, image: str, window: str) -> Problem:
        """Returns a random layer whose results fill the codes."""
        h, w, channels = (int(part) for part in image.split("x"))
        size, stride = (int(part) for part in window.split("/"))
        random = np.random.default_rng(SEED)
        return cls(
            random.integers(0, 256, (h, w, channels), dtype=np.uint8),
            random.integers(-127, 128, (channels, size, size), dtype=np.int8),
            (random.uniform(0.5, 1, channels) / (60 * size)).astype(np.float32),
            stride,
        )

    @property
    def size(self) -> int:
        """Height and width of the window."""
        return int(self.w.shape[1])

    @property
    def padding(self) -> int:
        """Rows and columns on each side."""
        return self.size // 2

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the output."""
        h, w, channels = self.x.shape
        return (h - 1) // self.stride + 1, (w - 1) // self.stride + 1, channels


@dataclass(frozen=True)
class Result:
    """Median microseconds of one layer, and the share of our bytes that equal the best peer's."""

    image: str
    window: str
    kernel: str
    ours_us: float
    peers_us: dict[str, float]
    best: str
    ratio: float
    equal: float


def prepare_ours(problem: Problem, isa: str) -> tuple[_native.Depthwise, _native.KernelInfo]:
    """Returns our layer, its input filled in, and the kernel that computes it."""
    h, w, channels = problem.x.shape
    kernel = _native.select_depthwise(isa, channels, problem.size, problem.size, problem.stride, 1)
    bias = np.zeros(channels, np.int32)
    layer = _native.Depthwise(
        kernel.name,
        h,
        w,
        problem.w,
        bias,
        problem.scale,
        problem.stride,
        problem.padding,
        LOWEST,
        LOWEST,
        LOWEST,
        127,
    )
    layer.x[...] = problem.x ^ _stored_shift(kernel)
    return layer, kernel


def _stored_shift(kernel: _native.KernelInfo) -> np.uint8:
    """Returns the bits in which a stored value differs from the peers' uint8."""
    return np.uint8(0 if kernel.storage == "u8" else 128)


def _onnx_model(nodes: list[Any], problem: Problem, nhwc: bool, constants: dict[str, Any]) -> bytes:
    """Returns a model of ``nodes`` from x to y, both uint8."""
    x_shape, y_shape = (
        [1, *_order(shape, nhwc)] for shape in (problem.x.shape, problem.output_shape)
    )
    graph = helper.make_graph(
        nodes,
        "depthwise",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, x_shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, y_shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return bytes(model.SerializeToString())


def _order(shape: tuple[int, ...], nhwc: bool) -> list[int]:
    h, w, channels = shape
    return [h, w, channels] if nhwc else [channels, h, w]


def _window_attributes(problem: Problem) -> dict[str, Any]:
    return {
        "group": len(problem.w),
        "kernel_shape": [problem.size] * 2,
        "strides": [problem.stride] * 2,
        "pads": [problem.padding] * 4,
    }


def bind_onnxruntime(problem: Problem, nhwc: bool) -> Bound:
    """Returns a call of ONNX Runtime's session, and of what reads its output as [h, w, c]."""
    onnxruntime = importlib.import_module("onnxruntime")
    zero = np.array(0, np.uint8)
    constants = {
        "x_scale": np.array(1, np.float32),
        "x_zero": zero,
        "w": problem.w[:, None],
        "w_scale": problem.scale,
        "w_zero": np.zeros(len(problem.w), np.int8),
        "y_scale": np.array(1, np.float32),
        "y_zero": zero,
    }
    where = {"domain": "com.microsoft", "channels_last": 1} if nhwc else {}
    node = helper.make_node(
        "QLinearConv", ["x", *constants], ["y"], **where, **_window_attributes(problem)
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(
        _onnx_model([node], problem, nhwc, constants), options, providers=["CPUExecutionProvider"]
    )
    x = np.ascontiguousarray(_to_border(problem.x, nhwc))
    y = np.zeros([1, *_order(problem.output_shape, nhwc)], np.uint8)
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, np.uint8, x.shape, x.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.uint8, y.shape, y.ctypes.data)

    def run(_keep: np.ndarray = x) -> None:
        session.run_with_iobinding(binding)

    return run, lambda: _from_border(y, nhwc)


def _to_border(x: np.ndarray, nhwc: bool) -> np.ndarray:
    return x[None] if nhwc else x.transpose(2, 0, 1)[None]


def _from_border(y: np.ndarray, nhwc: bool) -> np.ndarray:
    return y[0] if nhwc else y[0].transpose(1, 2, 0)


def bind_openvino(problem: Problem, nhwc: bool) -> Bound:
    """Returns a call of OpenVINO's compiled model, and of what reads its output as [h, w, c]."""
    openvino = importlib.import_module("openvino")
    preprocess = importlib.import_module("openvino.preprocess")
    constants = {
        "scale": np.array(1, np.float32),
        "zero": np.array(0, np.uint8),
        "codes": problem.w[:, None],
        "w_scale": problem.scale,
        "w_zero": np.zeros(len(problem.w), np.int8),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "scale", "zero"], ["x_real"]),
        helper.make_node("DequantizeLinear", ["codes", "w_scale", "w_zero"], ["w"], axis=0),
        helper.make_node("Conv", ["x_real", "w"], ["y_real"], **_window_attributes(problem)),
        helper.make_node("QuantizeLinear", ["y_real", "scale", "zero"], ["y"]),
    ]
    core = openvino.Core()
    model = core.read_model(_onnx_model(nodes, problem, False, constants))
    if nhwc:
        borders = preprocess.PrePostProcessor(model)
        for border in (borders.input(), borders.output()):
            border.tensor().set_layout(openvino.Layout("NHWC"))
            border.model().set_layout(openvino.Layout("NCHW"))
        model = borders.build()
    compiled = core.compile_model(
        model,
        "CPU",
        {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY"},
    )
    request = compiled.create_infer_request()
    x = np.ascontiguousarray(_to_border(problem.x, nhwc))
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))

    def run(_keep: np.ndarray = x) -> None:
        request.infer()

    return run, lambda: _from_border(request.get_output_tensor().data, nhwc)


def bind_litert(problem: Problem) -> Bound:
    """Returns a call of LiteRT's interpreter with XNNPACK, and of what reads its output as [h, w, c]."""
    interpreter_module = importlib.import_module("ai_edge_litert.interpreter")
    interpreter = interpreter_module.Interpreter(
        model_content=_litert_model(problem), num_threads=1
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(
        interpreter.get_input_details()[0]["index"], (problem.x ^ np.uint8(128)).view(np.int8)[None]
    )
    output = interpreter.get_output_details()[0]["index"]
    return interpreter.invoke, lambda: interpreter.get_tensor(output)[0].view(np.uint8) ^ 128


def _litert_model(problem: Problem) -> bytes:
    """Returns a TFLite file of one DEPTHWISE_CONV_2D, which pads as SAME does only with a Pad before stride 2."""
    schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    flatbuffers = importlib.import_module("flatbuffers")
    h, w, channels = problem.x.shape
    padded = [1, h + 2 * problem.padding, w + 2 * problem.padding, channels]
    same = problem.stride == 1

    def quantization(scale: np.ndarray, zero_point: int, axis: int) -> Any:
        parameters = schema.QuantizationParametersT()
        parameters.scale = scale.astype(np.float32)
        parameters.zeroPoint = np.full(len(scale), zero_point, np.int64)
        parameters.quantizedDimension = axis
        return parameters

    buffers = [schema.BufferT()]

    def tensor(name: str, shape: list[int], kind: int, data: Any = None, grid: Any = None) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.quantization = name, shape, kind, grid
        made.buffer = 0
        if data is not None:
            buffers.append(schema.BufferT())
            buffers[-1].data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            made.buffer = len(buffers) - 1
        return made

    one = np.ones(1, np.float32)
    int8, int32 = schema.TensorType.INT8, schema.TensorType.INT32
    codes = problem.w.transpose(1, 2, 0)[None]
    pads = np.array([[0, 0], [problem.padding] * 2, [problem.padding] * 2, [0, 0]], np.int32)
    tensors = [
        tensor("x", [1, h, w, channels], int8, grid=quantization(one, LOWEST, 0)),
        tensor("w", list(codes.shape), int8, codes, quantization(problem.scale, 0, 3)),
        tensor(
            "bias",
            [channels],
            int32,
            np.zeros(channels, np.int32),
            quantization(problem.scale, 0, 0),
        ),
        tensor("y", [1, *problem.output_shape], int8, grid=quantization(one, LOWEST, 0)),
        tensor("padded", padded, int8, grid=quantization(one, LOWEST, 0)),
        tensor("pads", [4, 2], int32, pads),
    ]
    convolve = schema.OperatorT()
    convolve.inputs = [0 if same else 4, 1, 2]
    convolve.outputs = [3]
    convolve.builtinOptionsType = schema.BuiltinOptions.DepthwiseConv2DOptions
    options = schema.DepthwiseConv2DOptionsT()
    options.padding = schema.Padding.SAME if same else schema.Padding.VALID
    options.strideW = options.strideH = problem.stride
    options.dilationWFactor = options.dilationHFactor = 1
    options.depthMultiplier = 1
    options.fusedActivationFunction = schema.ActivationFunctionType.NONE
    convolve.builtinOptions = options
    operators = [convolve]
    kinds = [schema.BuiltinOperator.DEPTHWISE_CONV_2D]
    if not same:
        pad = schema.OperatorT()
        pad.opcodeIndex = 1
        pad.inputs, pad.outputs = [0, 5], [4]
        pad.builtinOptionsType = schema.BuiltinOptions.PadOptions
        pad.builtinOptions = schema.PadOptionsT()
        operators.insert(0, pad)
        kinds.append(schema.BuiltinOperator.PAD)
    model = schema.ModelT()
    model.version = 3
    model.operatorCodes = []
    for kind in kinds:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = kind
        code.version = 3 if kind == schema.BuiltinOperator.DEPTHWISE_CONV_2D else 2
        model.operatorCodes.append(code)
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = tensors, operators
    graph.inputs, graph.outputs = [0], [3]
    model.subgraphs = [graph]
    model.buffers = buffers
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


# Each form of each peer, and the module that it needs.
PEERS: dict[str, tuple[str, Callable[[Problem], Bound]]] = {
    "onnxruntime NHWC": ("onnxruntime", lambda problem: bind_onnxruntime(problem, True)),
    "onnxruntime NCHW": ("onnxruntime", lambda problem: bind_onnxruntime(problem, False)),
    "openvino NHWC": ("openvino", lambda problem: bind_openvino(problem, True)),
    "openvino NCHW": ("openvino", lambda problem: bind_openvino(problem, False)),
    "litert": ("ai_edge_litert", bind_litert),
}


def compare(image: str, window: str, isa: str, peers: list[str], seconds: float) -> Result:
    """Times one layer."""
    problem = Problem.draw(image, window)
    ours, kernel = prepare_ours(problem, isa)
    bound = {name: PEERS[name][1](problem) for name in peers}
    empty = {name: PEERS[name][1](Problem.draw("1x1x16", window)) for name in peers}
    calls: dict[str, Callable[[], object]] = {"ours": ours.run}
    calls |= {name: call for name, (call, _) in bound.items()}
    calls |= {f"{name}, empty": call for name, (call, _) in empty.items()}
    times = measure(calls, seconds)
    peers_us = {name: times[name] - times[f"{name}, empty"] for name in peers}
    best = min(peers, key=peers_us.__getitem__)
    equal = float(np.mean((ours.y ^ _stored_shift(kernel)) == bound[best][1]()))
    ratio = peers_us[best] / times["ours"]
    return Result(image, window, kernel.name, times["ours"], peers_us, best, ratio, equal)


def main() -> None:
    """Prints the table and its geometric mean."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--image", action="append", metavar="HxWxC")
    parser.add_argument("--window", action="append", metavar="K/S", help="size and stride")
    parser.add_argument("--isa", help="default: the best of this machine, or EDGEKIT_ISA")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each layer")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    isa = arguments.isa or _native.best_isa()
    modules = sorted({module for module, _ in PEERS.values()})
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    peers = [name for name, (module, _) in PEERS.items() if module not in missing]
    if missing:
        print(f"not installed, so not in the contest: {', '.join(missing)}")
    if not peers:
        parser.error("there is no peer to compare with")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(f"{describe_machine()}; {isa}, 1 thread")
    print(
        f"{'image':>12} {'window':>6} {'ours':>9} " + " ".join(f"{name:>16}" for name in peers),
        end="",
    )
    print(f" {'ratio':>6} {'equal':>7}")
    results = []
    for image in arguments.image or IMAGES:
        for window in arguments.window or WINDOWS:
            result = compare(image, window, isa, peers, arguments.seconds)
            results.append(result)
            columns = " ".join(f"{result.peers_us[name]:14.1f}us" for name in peers)
            print(
                f"{image:>12} {window:>6} {result.ours_us:7.1f}us {columns} {result.ratio:6.2f}"
                f" {100 * result.equal:6.2f}%",
                flush=True,
            )
    mean = math.exp(statistics.fmean(math.log(result.ratio) for result in results))
    least = min(result.ratio for result in results)
    print(f"geometric mean {mean:.2f}, least {least:.2f}")
    if arguments.json:
        content = {
            "machine": describe_machine().to_dict(),
            "isa": isa,
            "python": platform.python_version(),
            "geometric_mean": mean,
            "least": least,
            "layers": [asdict(result) for result in results],
        }
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
