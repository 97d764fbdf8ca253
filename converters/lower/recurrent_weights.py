"""Reads the constants of LSTM, GRU and RNN."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgekit.converters.lower.state import Lowering, refuse
from edgekit.converters.program import Float32Array, Int8Array
from edgekit.converters.quantization import RowQuantization, get_quantization

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@dataclass(frozen=True)
class CodedMatrix:
    """A matrix of codes: real value ``scale[row] * codes[row, k]``."""

    codes: Int8Array
    scale: Float32Array


@dataclass(frozen=True)
class RecurrentWeights:
    """The constants of one direction.

    Attributes:
        input: ``[gates * hidden, features]``.
        state: ``[gates * hidden, hidden]``.
        input_bias: ``[gates * hidden]``.
        state_bias: The same.
        peephole: ``[3, 1, hidden]`` or None.
        coded: Both matrices as codes, or None where they stay float32.
    """

    input: Float32Array
    state: Float32Array
    input_bias: Float32Array
    state_bias: Float32Array
    peephole: Float32Array | None
    coded: tuple[CodedMatrix, CodedMatrix] | None

    @property
    def bias(self) -> Float32Array:
        """Both biases."""
        return self.input_bias + self.state_bias

    @property
    def hidden(self) -> int:
        """Elements of the state of a sample."""
        return int(self.state.shape[1])


def read_weights(lowering: Lowering, node: ir.Node, number: int, features: int) -> RecurrentWeights:
    """Returns the constants of direction ``number`` of ``node``, which reads rows of ``features`` elements.

    Raises:
        ModelError: One of them is computed, or does not fit the others.
    """
    arrays = [lowering.constant(node, index) for index in (1, 2)]
    if arrays[0] is None or arrays[1] is None:
        refuse(node, "its weights are computed")
    own, recurrent = (
        np.ascontiguousarray(array[number], np.float32) for array in arrays if array is not None
    )
    count, hidden = len(own), recurrent.shape[1]
    if (
        count != _GATES[node.op_type] * hidden
        or recurrent.shape[0] != count
        or own.shape[1] != features
    ):
        refuse(node, f"its weights {list(own.shape)} and {list(recurrent.shape)} do not fit")
    biases = np.zeros((2, count), np.float32)
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        given = lowering.constant(node, 3)
        if given is None:
            refuse(node, "its bias is computed")
        biases = np.asarray(given[number], np.float32).reshape(2, count)
    peephole = None
    if len(node.inputs) > 7 and node.inputs[7] is not None:
        array = lowering.constant(node, 7)
        if array is None:
            refuse(node, "its peepholes are computed")
        peephole = np.asarray(array[number], np.float32).reshape(3, 1, hidden)
    coded = _read_codes(node, number)
    return RecurrentWeights(own, recurrent, biases[0], biases[1], peephole, coded)


def _read_codes(node: ir.Node, number: int) -> tuple[CodedMatrix, CodedMatrix] | None:
    records = [None if value is None else get_quantization(value) for value in node.inputs[1:3]]
    coded = [
        CodedMatrix(record.codes[number], record.scale[number])
        for record in records
        if isinstance(record, RowQuantization)
    ]
    return (coded[0], coded[1]) if len(coded) == 2 else None
