"""Bias absorption: what every element of a channel is at least, behind a Relu, moves into the next layer's bias.

Nagel, van Baalen, Blankevoort and Welling, "Data-Free Quantization Through Weight Equalization and Bias Correction",
2019, section 4.1.3; there the least value is guessed from batch normalization, here calibration saw it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.calibrate import Calibration
from edgekit.converters.passes.rewrite import add_initializer, constant, forget_names
from edgekit.converters.quantizable import is_layer, obstacle, output_axis
from edgekit.converters.recover.report import LayerEffect
from edgekit.converters.recover.rescale import lay_out

Floats = npt.NDArray[np.float64]
# The share of the least value that was seen which moves: other samples may go below it.
_SHARE = 0.5
# Channels whose least value is a smaller share of their largest gain too little.
_LEAST = 0.05


def absorb(model: ir.Model, calibration: Calibration) -> list[LayerEffect]:
    """Moves what is constant in channels behind a Relu into the layers that read them, in place.

    For ``h = Relu(W1 x + b1)``, read by layers alone, and ``c`` half of the least value of each channel of h:
    ``b1' = b1 - c`` and ``b2' = b2 + W2 c``. It is exact wherever h stays above c, as it did in calibration by twice as
    much; below, h' is 0 where it would be negative. Layers that pad their input read 0 there and are left alone.

    Args:
        model: A simplified float graph.
        calibration: Of this graph.

    Returns:
        The layers whose bias was taken smaller.
    """
    graph = model.graph
    forget_names(graph)
    effects = []
    for node in graph:
        if node.op_type != "Relu" or node.domain:
            continue
        source, output = node.inputs[0], node.outputs[0]
        maker = None if source is None else source.producer()
        seen = calibration.channels.get(str(output.name))
        readers = [use.node for use in output.uses()]
        if (
            maker is None
            or source is None
            or seen is None
            or len(source.uses()) != 1
            or source.is_graph_output()
            or output.is_graph_output()
            or not _takes_bias(maker)
            or not all(_takes_bias(reader) and not _pads(reader) for reader in readers)
        ):
            continue
        least = np.maximum(seen.lo.astype(np.float64), 0.0)
        share = np.where(least > _LEAST * seen.hi, _SHARE * least, 0.0)
        if not share.any() or share.size != _bias_of(maker).size:
            continue
        _set_bias(graph, maker, _bias_of(maker) - share)
        for reader in readers:
            _set_bias(graph, reader, _bias_of(reader) + _pass(reader, share))
        count = int(np.count_nonzero(share))
        note = f"{count} biases moved on, by up to {share.max():.3g}"
        effects.append(LayerEffect(maker.name or "", 0.0, note))
    forget_names(graph)
    return effects


def _takes_bias(node: ir.Node) -> bool:
    if not is_layer(node) or node.op_type not in ("Conv", "Gemm") or obstacle(node) is not None:
        return False
    return len({id(value) for value in node.inputs}) == len(node.inputs)


def _pads(node: ir.Node) -> bool:
    pads = node.attributes.get("pads")
    return pads is not None and any(pads.as_ints())


def _bias_of(node: ir.Node) -> Floats:
    weight = constant(node.inputs[1])
    assert weight is not None
    channels = weight.shape[output_axis(node)]
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is None:
        return np.zeros(channels)
    return np.broadcast_to(bias.astype(np.float64).reshape(-1), (channels,))


def _set_bias(graph: ir.Graph, node: ir.Node, bias: Floats) -> None:
    node.resize_inputs(3)
    value = add_initializer(graph, f"{node.name}_bias", bias.astype(np.float32))
    node.replace_input_with(2, value)


def _pass(node: ir.Node, values: Floats) -> Floats:
    """Returns what a layer makes of an input that has one value a channel everywhere."""
    weight = constant(node.inputs[1])
    assert weight is not None
    summed = weight.astype(np.float64).reshape(*weight.shape[:2], -1).sum(axis=2)
    outputs = weight.shape[output_axis(node)]
    below, _ = lay_out(node, values, np.zeros(outputs))
    found: Floats = (summed * below).sum(axis=1 - output_axis(node))
    return found
