"""Writes where codes begin and end: inputs and outputs of the network, as float32 or as codes."""

from __future__ import annotations

from dataclasses import replace

from edgekit.converters.lower.state import TO_CHANNELS_LAST, TO_SOURCE_ORDER
from edgekit.converters.program import Dequantize, DType, Op, Program, Quantize, Reshape, Transpose
from edgekit.converters.tflite.schema import schema
from edgekit.converters.tflite.state import State


def write_quantize(state: State, op: Quantize) -> None:
    """QUANTIZE; an input of the model that becomes an NHWC image lies NHWC in the file."""
    source, y = state.tensor(op.input), state.tensor(op.output)
    if y.channels_last and not source.channels_last:
        state.channels_last.add(op.input)
        state.put(op.input, state.file.add_tensor(op.input, y.shape, source.dtype.numpy))
    state.add(
        "QUANTIZE", [state.index(op.input)], state.index(op.output), schema.QuantizeOptionsT()
    )


def write_dequantize(state: State, op: Dequantize) -> None:
    """DEQUANTIZE; an output of the model that comes from an NHWC image lies NHWC in the file."""
    source, y = state.tensor(op.input), state.tensor(op.output)
    if source.channels_last and not y.channels_last:
        state.channels_last.add(op.output)
        state.put(op.output, state.file.add_tensor(op.output, source.shape, y.dtype.numpy))
    state.add(
        "DEQUANTIZE", [state.index(op.input)], state.index(op.output), schema.DequantizeOptionsT()
    )


def turn_borders(program: Program) -> tuple[Program, set[str]]:
    """Returns ``program`` with float32 images NHWC at its borders, where nothing there wants the model's order.

    Returns:
        The program without the operators that turned inputs to NHWC or outputs from it, and the names of those.
    """
    turned: set[str] = set()
    for name in program.inputs:
        readers = [op for op in program.ops if name in op.inputs]
        if readers and name not in program.outputs and all(_turns(program, op) for op in readers):
            program = _turn_input(program, name, readers)
            turned.add(name)
    for name in program.outputs:
        maker = next((op for op in program.ops if op.output == name), None)
        if maker is not None and _turns_back(program, maker):
            program = _turn_output(program, maker)
            turned.add(name)
    return program, turned


def _turns(program: Program, op: Op) -> bool:
    """Returns whether ``op`` only brings a float32 input to NHWC."""
    y = program.tensors[op.output]
    if y.dtype is not DType.FLOAT32 or not y.channels_last or op.output in program.outputs:
        return False
    if isinstance(op, Transpose):
        return op.permutation == TO_CHANNELS_LAST
    return isinstance(op, Reshape) and y.source_shape == program.tensors[op.input].shape


def _turns_back(program: Program, op: Op) -> bool:
    """Returns whether ``op`` only brings a float32 image that nothing else reads to the model's order."""
    if not isinstance(op, Transpose) or op.permutation != TO_SOURCE_ORDER:
        return False
    x = program.tensors[op.input]
    readers = [other for other in program.ops if op.input in other.inputs]
    made = any(other.output == op.input for other in program.ops)
    alone = len(readers) == 1 and op.input not in program.outputs
    return x.dtype is DType.FLOAT32 and x.channels_last and alone and made


def _turn_input(program: Program, name: str, readers: list[Op]) -> Program:
    gone = {op.output for op in readers}
    ops = tuple(_read_from(op, gone, name) for op in program.ops if op not in readers)
    tensors = {key: tensor for key, tensor in program.tensors.items() if key not in gone}
    tensors[name] = replace(program.tensors[readers[0].output], name=name)
    return replace(program, ops=ops, tensors=tensors)


def _turn_output(program: Program, back: Op) -> Program:
    (source,) = back.inputs
    ops = tuple(
        replace(op, output=back.output) if op.output == source else op
        for op in program.ops
        if op is not back
    )
    tensors = dict(program.tensors)
    tensors[back.output] = replace(tensors.pop(source), name=back.output)
    return replace(program, ops=ops, tensors=tensors)


def _read_from(op: Op, gone: set[str], name: str) -> Op:
    """Returns ``op`` with ``name`` in the place of each input in ``gone``."""
    changes: dict[str, object] = {}
    for field, value in vars(op).items():
        if field in ("name", "output"):
            continue
        if isinstance(value, str) and value in gone:
            changes[field] = name
        elif isinstance(value, tuple) and gone.intersection(
            part for part in value if isinstance(part, str)
        ):
            changes[field] = tuple(name if part in gone else part for part in value)
    return replace(op, **changes) if changes else op  # type: ignore[arg-type]
