"""Writes a lowered program as a TFLite file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import __version__
from edgekit.converters import float_program as floats
from edgekit.converters import plain_program as plains
from edgekit.converters import program as ops
from edgekit.converters import wide_program as wides
from edgekit.converters.program import Program
from edgekit.converters.tflite import (
    arithmetic,
    borders,
    float_functions,
    float_layers,
    functions,
    layers,
    movement,
    plain,
    pooling,
    resizing,
    wide_layers,
)
from edgekit.converters.tflite.about import METADATA as TASK_METADATA
from edgekit.converters.tflite.about import About, append_labels, write_block
from edgekit.converters.tflite.codes import Codes
from edgekit.converters.tflite.model_file import SIGNATURE, Signature
from edgekit.converters.tflite.state import State, Weights, refuse

# The block that says how the file's borders differ from the source model's.
METADATA = "edgekit"

_WRITERS: Mapping[type[ops.Op], Callable[[State, Any], None]] = {
    ops.Binary: arithmetic.write_binary,
    ops.Concat: movement.write_concat,
    ops.Conv: layers.write_conv,
    ops.ConvTranspose: layers.write_conv_transpose,
    ops.DepthwiseConv: layers.write_depthwise,
    ops.Dequantize: borders.write_dequantize,
    floats.DynamicFullyConnected: float_layers.write_dynamic,
    floats.FloatBinary: float_layers.write_binary,
    floats.FloatConv: float_layers.write_conv,
    floats.FloatConvTranspose: float_layers.write_conv_transpose,
    floats.FloatDepthwiseConv: float_layers.write_depthwise,
    floats.FloatFullyConnected: float_layers.write_fully_connected,
    floats.FloatLayerNorm: float_functions.write_layer_norm,
    floats.FloatMatMul: float_layers.write_matmul,
    floats.FloatPool: float_functions.write_pool,
    floats.FloatReduce: float_functions.write_reduce,
    floats.FloatResize: float_functions.write_resize,
    floats.FloatSoftmax: float_functions.write_softmax,
    floats.FloatUnary: float_functions.write_unary,
    ops.FullyConnected: layers.write_fully_connected,
    ops.GlobalMean: arithmetic.write_global_mean,
    ops.Lookup: functions.write_lookup,
    ops.MatMul: arithmetic.write_product,
    ops.Pad: movement.write_pad,
    plains.ArgExtreme: plain.write_arg_extreme,
    plains.Cast: plain.write_cast,
    plains.Compare: plain.write_compare,
    plains.Where: plain.write_where,
    plains.Expand: plain.write_expand,
    plains.Gather: plain.write_gather,
    plains.IntegerBinary: plain.write_logic,
    ops.Pool: pooling.write_pool,
    ops.Quantize: borders.write_quantize,
    ops.Requantize: arithmetic.write_requantize,
    ops.Reshape: movement.write_reshape,
    ops.Resize: resizing.write_resize,
    ops.Slice: movement.write_slice,
    ops.Softmax: arithmetic.write_softmax,
    ops.Transpose: movement.write_transpose,
    wides.WideConv: wide_layers.write_wide_conv,
    wides.WideDepthwiseConv: wide_layers.write_wide_depthwise,
}


@dataclass(frozen=True)
class TfliteFile:
    """A file's bytes, and what is in them.

    Attributes:
        data: The bytes.
        operators: Names of the file's operators, in order of execution.
        channels_last: Inputs and outputs that lie NHWC where the source model has NCHW.
    """

    data: bytes
    operators: tuple[str, ...]
    channels_last: tuple[str, ...]


@dataclass(frozen=True)
class TfliteSummary:
    """What was written.

    Attributes:
        path: The file.
        file_size: Bytes.
        operators: Names of the file's operators, in order of execution.
    """

    path: Path
    file_size: int
    operators: tuple[str, ...]

    @property
    def transposes(self) -> int:
        """How many operators only change the order of dimensions."""
        return self.operators.count("TRANSPOSE")


def write_tflite(
    program: Program,
    path: str | Path,
    *,
    weights: Weights = Weights.FLOAT32,
    about: About | None = None,
    codes: Codes | None = None,
    clamps: Mapping[str, tuple[float, float]] | None = None,
    sizes: Sequence[Program] = (),
) -> TfliteSummary:
    """Writes ``program`` as a TFLite file. The same program gives the same bytes.

    Args:
        program: The lowered network, nothing fused: ``lower(model, fuse=False)``.
        path: The file.
        weights: How the weights of layers that compute in float32 are stored.
        about: What task tools are to know of it.
        codes: How codes are stored; by default int8, as the program has them.
        clamps: Bounds of values by name, for codes that do not saturate there.
        sizes: The same network for inputs of other shapes: each becomes a signature of its own, named after them, over
            the same buffers.

    Raises:
        ModelError: TFLite has no operator for one of the program's.
    """
    made = make_file(program, weights, about, codes, clamps, sizes)
    path = Path(path)
    path.write_bytes(made.data)
    return TfliteSummary(path, len(made.data), made.operators)


def make_file(
    program: Program,
    weights: Weights = Weights.FLOAT32,
    about: About | None = None,
    codes: Codes | None = None,
    clamps: Mapping[str, tuple[float, float]] | None = None,
    sizes: Sequence[Program] = (),
) -> TfliteFile:
    """Returns ``program`` as the bytes of a TFLite file; see `write_tflite`."""
    state = _write_subgraph(program, weights, codes or Codes(), clamps or {})
    others = [
        (_write_subgraph(size, weights, codes or Codes(), clamps or {}, state), _name(size))
        for size in sizes
    ]
    facts: dict[str, Any] = _describe(state)
    if others:
        versions = [(state, SIGNATURE), *others]
        facts["sizes"] = [{"signature": key, **_describe(version)} for version, key in versions]
    state.file.add_metadata(METADATA, json.dumps(facts).encode())
    if about is not None:
        block = write_block(about, state.program.inputs, state.program.outputs)
        state.file.add_metadata(TASK_METADATA, block)
    data = state.file.to_bytes(
        _sign(state, SIGNATURE),
        f"edgekit {__version__}",
        [(other.file, _sign(other, key)) for other, key in others],
    )
    if about is not None and about.labels:
        data = append_labels(data, about.labels)
    return TfliteFile(data, tuple(state.file.kinds()), tuple(sorted(state.channels_last)))


def _write_subgraph(
    program: Program,
    weights: Weights,
    codes: Codes,
    clamps: Mapping[str, tuple[float, float]],
    beside: State | None = None,
) -> State:
    """Returns the subgraph of ``program``, in the file of ``beside`` where there is one."""
    program, channels_last = borders.turn_borders(program)
    state = State(program, weights, codes, clamps, beside)
    state.channels_last |= channels_last
    for op in program.ops:
        writer = _WRITERS.get(type(op))
        if writer is None:
            refuse(op, "this version writes no such operator to TFLite files")
        is_real = program.tensors[op.output].dtype is ops.DType.FLOAT32
        if is_real and isinstance(op, ops.Conv | ops.FullyConnected):
            refuse(op, "TFLite's layers on codes write codes, not float32")
        writer(state, op)
    return state


def _describe(state: State) -> dict[str, Any]:
    """Returns how the borders of a subgraph differ from the source model's."""
    return {
        "channels_last": sorted(state.channels_last),
        "batch": _shared_batch(state.program),
    }


def _sign(state: State, key: str) -> Signature:
    return Signature(
        key,
        {name: state.index(name) for name in state.program.inputs},
        {name: state.index(name) for name in state.program.outputs},
    )


def _name(program: Program) -> str:
    """Returns the signature's key of a further size: the shapes of its inputs, in the source model's order."""
    shapes = [program.tensors[name].shape for name in program.inputs]
    return "_".join(["size", *("x".join(map(str, shape)) for shape in shapes)])


def _shared_batch(program: Program) -> int | None:
    """Returns the leading dimension of all inputs, None where they differ in it or have none."""
    shapes = [program.tensors[name].shape for name in program.inputs]
    batches = {shape[0] if shape else None for shape in shapes}
    return batches.pop() if len(batches) == 1 else None
