"""Recurrent operators of a TensorFlow Lite file as ONNX nodes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekit.converters.read_tflite.network import Network
from edgekit.converters.read_tflite.records import FLOAT_TYPES, Operator

# Inputs of UNIDIRECTIONAL_SEQUENCE_LSTM: gates in the order input, forget, cell, output.
_FROM_INPUT, _FROM_STATE, _PEEPHOLES, _BIASES = 1, 5, 9, 12
_PROJECTION, _STATES, _NORMS = 16, 18, 20
_GATES = 4
# ONNX's order of gates: input, output, forget, cell; of peepholes: input, output, forget.
_ORDER, _PEEPHOLE_ORDER = (0, 3, 1, 2), (0, 2, 1)
_TANH = 4


def read_lstm(network: Network, operator: Operator) -> None:
    """UNIDIRECTIONAL_SEQUENCE_LSTM: an LSTM over a sequence, with the weights of each gate by themselves.

    Its states are zeros at the start of each run; TensorFlow Lite's interpreter hands them on to the next one.
    """
    x, y = network.tensor(operator, 0), network.output(operator)
    _check(network, operator)
    from_input = _gates(network, operator, _FROM_INPUT)
    from_state = _gates(network, operator, _FROM_STATE)
    hidden, features = from_input[0].shape
    if any(part.shape != (hidden, features) for part in from_input) or any(
        part.shape != (hidden, hidden) for part in from_state
    ):
        network.refuse(
            operator, "the weights of its gates differ in shape, or its state is projected"
        )
    time_major = bool(network.option(operator, "TimeMajor"))
    source = network.get(x)
    if not time_major:
        source = network.add(
            "Transpose", [source], network.new_name(f"{x.name}:steps"), perm=[1, 0, 2]
        )
    biases = np.concatenate([_bias(network, operator, gate, hidden) for gate in _ORDER])
    weights = {
        "weight": np.concatenate([from_input[gate] for gate in _ORDER])[None],
        "recurrence": np.concatenate([from_state[gate] for gate in _ORDER])[None],
        "bias": np.concatenate([biases, np.zeros_like(biases)])[None],
    }
    inputs = [
        source,
        *(network.add_constant(f"{y.name}:{name}", array) for name, array in weights.items()),
    ]
    peepholes = _peepholes(network, operator, hidden)
    if peepholes is not None:
        inputs += ["", "", "", network.add_constant(f"{y.name}:peepholes", peepholes)]
    whole = network.add("LSTM", inputs, network.new_name(f"{y.name}:all"), hidden_size=hidden)
    axis = network.add_constant(f"{y.name}:axis", np.array([1], np.int64))
    if time_major:
        network.add("Squeeze", [whole, axis], network.give(y))
    else:
        steps = network.add("Squeeze", [whole, axis], network.new_name(f"{y.name}:steps"))
        network.add("Transpose", [steps], network.give(y), perm=[1, 0, 2])
    network.notes.append(
        f"the states of '{y.name}' are zeros at the start of each run; TensorFlow Lite hands them on to the next run"
    )


def _check(network: Network, operator: Operator) -> None:
    """Refuses what ONNX's LSTM does not do.

    Raises:
        ModelError: The operator does it.
    """
    x = network.tensor(operator, 0)
    if x.type not in FLOAT_TYPES or len(x.shape) != 3:
        network.refuse(
            operator,
            f"its input is {x.type} of {len(x.shape)} dimensions: convert the model with float activations, "
            "[batch, steps, features]",
        )
    if network.option(operator, "FusedActivationFunction") != _TANH:
        network.refuse(operator, "its activation is not tanh")
    for name, what in (("CellClip", "its cell state"), ("ProjClip", "its projection")):
        if operator.options.get(name):
            network.refuse(operator, f"{what} is clipped, which ONNX's LSTM does not do")
    for first, count, what in (
        (_PROJECTION, 2, "projects its state"),
        (_NORMS, _GATES, "normalizes its gates"),
    ):
        if any(network.optional(operator, first + index) is not None for index in range(count)):
            network.refuse(operator, f"it {what}, which ONNX's LSTM does not do")
    for index in (_STATES, _STATES + 1):
        state = network.optional(operator, index)
        if state is not None and not state.is_state:
            network.refuse(operator, "its state at the start is computed")


def _gates(network: Network, operator: Operator, first: int) -> list[npt.NDArray[np.float32]]:
    return [_matrix(network, operator, first + gate) for gate in range(_GATES)]


def _matrix(network: Network, operator: Operator, index: int) -> npt.NDArray[np.float32]:
    tensor = network.optional(operator, index)
    if tensor is None:
        network.refuse(operator, f"its input {index} is missing: its gates are coupled")
    if not network.is_constant(tensor) or len(tensor.shape) != 2 or 0 in tensor.shape:
        network.refuse(operator, f"its weights, input {index}, are no constant matrix")
    return network.reals(tensor).astype(np.float32)


def _bias(network: Network, operator: Operator, gate: int, hidden: int) -> npt.NDArray[np.float32]:
    return _vector(network, operator, _BIASES + gate, hidden)


def _peepholes(network: Network, operator: Operator, hidden: int) -> npt.NDArray[np.float32] | None:
    given = [network.optional(operator, _PEEPHOLES + gate) for gate in range(3)]
    if not any(tensor is not None for tensor in given):
        return None
    rows = [_vector(network, operator, _PEEPHOLES + gate, hidden) for gate in _PEEPHOLE_ORDER]
    return np.concatenate(rows)[None]


def _vector(
    network: Network, operator: Operator, index: int, hidden: int
) -> npt.NDArray[np.float32]:
    """Returns a constant of one number for each element of the state; zeros where it is left out."""
    tensor = network.optional(operator, index)
    if tensor is None:
        return np.zeros(hidden, np.float32)
    if not network.is_constant(tensor) or tensor.shape != (hidden,):
        network.refuse(operator, f"its input {index} is no constant of {hidden} numbers")
    return network.reals(tensor).astype(np.float32)
