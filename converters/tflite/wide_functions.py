"""What 16x8 does about functions of which TFLite has no kernel on codes of 16 bits: their nodes compute in float32."""

from __future__ import annotations

import onnx_ir as ir

from edgekit.converters.program import Lookup, Program
from edgekit.converters.quantization import get_quantization, keep_float, stays_float
from edgekit.converters.regions import find_regions
from edgekit.converters.tflite.functions import is_only_a_table


def leave_tables_float(quantized: ir.Model, program: Program) -> ir.Model:
    """Returns ``quantized``, or a copy in which nodes are float32 whose function is a table in ``program`` alone.

    Their inputs and outputs keep their grids, so that what is around them stays as it is.

    Args:
        quantized: The graph with its records.
        program: The same, lowered.
    """
    names = {
        op.name
        for op in program.ops
        if isinstance(op, Lookup)
        and is_only_a_table(op, program.tensors[op.input], program.tensors[op.output])
    }
    if not names:
        return quantized
    whole = quantized.clone()
    nodes = [node for node in whole.graph if not stays_float(node)]
    regions = find_regions(nodes, lambda value: get_quantization(value) is not None)
    for last, region in regions.items():
        if last.name in names:
            for node in region.nodes:
                keep_float(node)
    return whole
