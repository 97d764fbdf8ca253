"""Turns a TensorFlow Lite file into the float ONNX model that it is, and the records of what it has quantized."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx

from edgekit.converters.quantization import ActivationQuantization, Quantization
from edgekit.converters.read_tflite import elementwise, movement, recurrent, windows
from edgekit.converters.read_tflite.file import parse, read_bytes
from edgekit.converters.read_tflite.network import Network
from edgekit.converters.read_tflite.records import Operator
from edgekit.targets.errors import ModelError

_READERS: dict[str, Callable[[Network, Operator], None]] = {
    **dict.fromkeys(elementwise.BINARY, elementwise.read_binary),
    **dict.fromkeys(elementwise.UNARY, elementwise.read_unary),
    **dict.fromkeys(elementwise.REDUCTIONS, elementwise.read_reduction),
    "AVERAGE_POOL_2D": windows.read_pool,
    "BATCH_MATMUL": windows.read_batch_matmul,
    "CAST": movement.read_cast,
    "CONCATENATION": movement.read_concat,
    "CONV_2D": windows.read_conv,
    "DENSIFY": movement.read_densify,
    "DEPTHWISE_CONV_2D": windows.read_depthwise_conv,
    "DEPTH_TO_SPACE": movement.read_depth_to_space,
    "DEQUANTIZE": movement.read_dequantize,
    "EXPAND_DIMS": movement.read_reshape,
    "FULLY_CONNECTED": windows.read_fully_connected,
    "GATHER": movement.read_gather,
    "GELU": elementwise.read_gelu,
    "LEAKY_RELU": elementwise.read_leaky_relu,
    "LOG_SOFTMAX": elementwise.read_softmax,
    "MAX_POOL_2D": windows.read_pool,
    "MIRROR_PAD": movement.read_pad,
    "PACK": movement.read_pack,
    "PAD": movement.read_pad,
    "PADV2": movement.read_pad,
    "PRELU": elementwise.read_prelu,
    "QUANTIZE": movement.read_quantize,
    "RELU6": elementwise.read_clip,
    "RELU_0_TO_1": elementwise.read_clip,
    "RELU_N1_TO_1": elementwise.read_clip,
    "RESHAPE": movement.read_reshape,
    "RESIZE_BILINEAR": movement.read_resize,
    "RESIZE_NEAREST_NEIGHBOR": movement.read_resize,
    "RSQRT": elementwise.read_rsqrt,
    "SELECT": elementwise.read_select,
    "SELECT_V2": elementwise.read_select,
    "SLICE": movement.read_slice,
    "SOFTMAX": elementwise.read_softmax,
    "SPACE_TO_DEPTH": movement.read_depth_to_space,
    "SPLIT": movement.read_split,
    "SPLIT_V": movement.read_split,
    "SQUARE": elementwise.read_square,
    "SQUARED_DIFFERENCE": elementwise.read_squared_difference,
    "SQUEEZE": movement.read_reshape,
    "STRIDED_SLICE": movement.read_strided_slice,
    "TRANSPOSE": movement.read_transpose,
    "TRANSPOSE_CONV": windows.read_transpose_conv,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": recurrent.read_lstm,
    "UNPACK": movement.read_unpack,
}
_CONTROL = frozenset({"CALL", "CALL_ONCE", "WHILE"})


@dataclass(frozen=True)
class TfliteNetwork:
    """What a TensorFlow Lite file holds.

    Attributes:
        model: The float network: codes are replaced by the numbers that they stand for.
        records: The quantized values of ``model`` by name, with the file's own scales; empty where no activation is
            quantized.
        notes: What the user should know of the reading.
    """

    model: onnx.ModelProto
    records: dict[str, Quantization | None]
    notes: tuple[str, ...]


def read_tflite(path: str | os.PathLike[str]) -> TfliteNetwork:
    """Reads and checks the file at ``path``.

    Inputs and outputs keep the file's names (its signature's, where it has one) and the file's order of dimensions;
    those that are codes in the file are numbers here. Inside, images have their channels second.

    Raises:
        ModelError: The file is missing, no TensorFlow Lite or damaged; it holds an operator that is not read (the
            message names it); or ai-edge-litert is not installed.
    """
    path = Path(path)
    network = Network(parse(read_bytes(path), str(path), inline=True), str(path))
    for operator in network.file.operators:
        if operator.code in _CONTROL:
            network.refuse(
                operator,
                "it calls or loops, which is not read: convert the model again without control flow, "
                "recurrent layers with unroll=True or fused to UNIDIRECTIONAL_SEQUENCE_LSTM",
            )
    for operator in network.file.operators:
        reader = _READERS.get(operator.code)
        if reader is None:
            network.refuse(operator, f"there is no {operator.code} in edgekit")
        reader(network, operator)
    try:
        model = network.make_model()
    except (ValueError, TypeError) as error:
        raise ModelError(f"{path}: the network cannot be written as ONNX: {error}") from error
    quantized = any(isinstance(r, ActivationQuantization) for r in network.records.values())
    return TfliteNetwork(model, network.records if quantized else {}, tuple(network.notes))
