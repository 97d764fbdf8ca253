"""Writes ONNX Runtime's LSTM on int8 weights (com.microsoft.DynamicQuantizeLSTM) as ONNX's own.

Its weights are ``[directions, k, rows]``, with a scale and a zero point for each direction or each row of each; x and h
get codes when the network runs. ``onnxruntime.quantization.quantize_dynamic`` writes it, and so does ``write_onnx``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgekit.converters.own_operators import MICROSOFT, PairAdder, refuse
from edgekit.converters.passes.rewrite import add_initializer, constant, forget_names
from edgekit.converters.program import Float32Array
from edgekit.converters.quantization import RowQuantization
from edgekit.converters.read_onnx import infer_shapes

_OPERATOR = "DynamicQuantizeLSTM"
# Inputs that both have, and where the scales of W and R are behind them; a zero point follows each.
_INPUTS = 8
_SCALES = {1: 8, 2: 10}
_LARGEST_CODE = 127


@dataclass
class RecurrentCodes:
    """The weights of such nodes.

    Attributes:
        records: By the name of an initializer; those that are not int8 around 0 have none.
        rewritten: Whether the model held any.
    """

    records: dict[str, RowQuantization] = field(default_factory=dict)
    rewritten: bool = False


def write_recurrent(model: ir.Model) -> RecurrentCodes:
    """Takes such nodes out of ``model``, in place, before its opset is converted.

    The weights are the numbers that their codes stand for.

    Raises:
        ModelError: Weights, scales or zero points are computed, or do not fit each other; names the node.
    """
    nodes = [node for node in model.graph if node.op_type == _OPERATOR and node.domain == MICROSOFT]
    forget_names(model.graph)
    reader = PairAdder(model)
    found = RecurrentCodes(rewritten=bool(nodes))
    for node in nodes:
        inputs = list(node.inputs[:_INPUTS])
        for index, place in _SCALES.items():
            weights, record = _decode(reader, node, index, place)
            value = inputs[index]
            assert value is not None
            real = add_initializer(model.graph, f"{value.name}:real", weights)
            inputs[index] = real
            if record is not None:
                found.records[str(real.name)] = record
        while inputs[-1] is None:
            inputs.pop()
        plain = ir.Node(
            "",
            "LSTM",
            inputs,
            node.attributes.values(),
            outputs=[ir.Value(type=value.type, shape=value.shape) for value in node.outputs],
            name=node.name,
        )
        names = [value.name for value in node.outputs]
        ir.convenience.replace_nodes_and_values(
            model.graph, node, [node], [plain], node.outputs, plain.outputs
        )
        for value, name in zip(plain.outputs, names, strict=True):
            value.name = name
    forget_names(model.graph)
    if nodes:
        infer_shapes(model)
    return found


def _decode(
    reader: PairAdder, node: ir.Node, index: int, place: int
) -> tuple[Float32Array, RowQuantization | None]:
    """Returns the weights ``[directions, rows, k]`` at input ``index``, scales at ``place``, and their record."""
    codes = constant(node.inputs[index])
    if codes is None or codes.ndim != 3:
        raise refuse(node, "its weights are computed, or no matrix for each direction")
    scale = reader.read_scale(node, place)
    zero_point = reader.read_zero_point(node, place + 1, ir.DataType.from_numpy(codes.dtype))
    directions, _, rows = codes.shape
    whole = []
    for array in (scale, zero_point):
        if array.size not in (1, directions, directions * rows):
            raise refuse(node, f"{array.size} scales or zero points do not fit its weights")
        each = array.reshape(-1, 1) if array.size <= directions else array.reshape(directions, rows)
        whole.append(np.broadcast_to(each, (directions, rows))[..., None])
    numbers = codes.swapaxes(1, 2).astype(np.int32) - whole[1].astype(np.int32)
    real = np.ascontiguousarray(numbers.astype(np.float32) * whole[0], np.float32)
    if np.abs(numbers).max(initial=0) > _LARGEST_CODE:
        return real, None
    coded = np.ascontiguousarray(numbers, np.int8)
    return real, RowQuantization(coded, np.ascontiguousarray(whole[0][..., 0], np.float32))
