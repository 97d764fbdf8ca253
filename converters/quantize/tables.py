"""Puts embedding tables into int8: constant float32 tables whose rows a Gather looks up by computed numbers.

Row ``r`` becomes ``s[r] * q[r]`` with ``s[r] = max|w[r]| / 127`` and ``q`` in [-127, 127]. One scale for a whole table
would be lost on its largest word: of all-MiniLM-L6-v2's words 42.8 dB are left with a scale for each row, 27.4 with one
for all. The graph then says so itself, in operators that every form has, and nothing is computed on codes:

    ``Gather(table, ids) -> Mul(Cast(Gather(codes, ids)), Gather(scales, ids))``
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.passes.rewrite import (
    add_initializer,
    attribute,
    constant,
    forget_names,
    new_name,
    replace,
)
from edgekit.converters.quantization import keep_float

_LIMIT = 127
# Elements of a table below which three operators more are not worth what is saved: 48 kB.
_FEWEST_ELEMENTS = 1 << 14


def quantize_tables(graph: ir.Graph) -> tuple[str, ...]:
    """Puts the tables of ``graph`` into int8, in place; returns the names of the nodes that look them up.

    Tables of at least 16,384 elements that are looked up by rows; nodes that share one share its codes.
    """
    forget_names(graph)
    known: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}
    found = []
    for node in tuple(graph):
        table = _table(node)
        if table is None:
            continue
        value = node.inputs[0]
        assert value is not None
        if value not in known:
            codes, scales = encode_rows(table)
            known[value] = (
                add_initializer(graph, f"{value.name}:rows", codes),
                add_initializer(graph, f"{value.name}:row_scales", scales),
            )
        _look_up(graph, node, *known[value])
        found.append(node.name or "")
    for value in known:
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[str(value.name)]
    forget_names(graph)
    return tuple(found)


def encode_rows(
    table: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Returns the codes of a table ``[n, ...]`` and the scale of each row, ``[n, 1, ...]``.

    >>> codes, scales = encode_rows(np.float32([[1, -2], [0, 0]]))
    >>> codes.tolist(), scales.shape
    ([[64, -127], [0, 0]], (2, 1))
    """
    others = tuple(range(1, table.ndim))
    peak = np.abs(table).max(axis=others, keepdims=True)
    # Rows whose scale would not be a normal number are as good as 0.
    scales = np.maximum(peak / np.float32(_LIMIT), np.finfo(np.float32).tiny).astype(np.float32)
    codes = np.rint(table / scales).clip(-_LIMIT, _LIMIT).astype(np.int8)
    return codes, scales


def _table(node: ir.Node) -> npt.NDArray[np.float32] | None:
    """Returns the float32 table that ``node`` looks rows up in, None where it is no such node."""
    if node.op_type != "Gather" or node.domain:
        return None
    table, ids = constant(node.inputs[0]), node.inputs[1]
    if table is None or ids is None or ids.const_value is not None:
        return None
    if table.dtype != np.float32 or table.ndim < 2 or table.size < _FEWEST_ELEMENTS:
        return None
    if attribute(node, "axis", 0) % table.ndim != 0:
        return None
    return table.astype(np.float32, copy=False)


def _look_up(graph: ir.Graph, node: ir.Node, codes: ir.Value, scales: ir.Value) -> None:
    """Puts the lookups of codes and scales, and their product, in the place of ``node``."""
    ids, result = node.inputs[1], node.outputs[0]
    row, row_scale = ir.node("Gather", [codes, ids]), ir.node("Gather", [scales, ids])
    number = ir.node("Cast", row.outputs, {"to": ir.DataType.FLOAT.value})
    for step, name, dtype in (
        (row, "row", ir.DataType.INT8),
        (row_scale, "row_scale", ir.DataType.FLOAT),
        (number, "number", ir.DataType.FLOAT),
    ):
        step.name = f"{node.name}:{name}"
        value = step.outputs[0]
        value.name = new_name(graph, f"{result.name}:{name}")
        value.dtype = dtype
        value.shape = _shape_of_rows(ids, scales if step is row_scale else codes)
    product = ir.node("Mul", [number.outputs[0], row_scale.outputs[0]], name=node.name)
    product.outputs[0].type, product.outputs[0].shape = result.type, result.shape
    product.outputs[0].meta.update(result.meta)
    for step in (row, row_scale, number, product):
        keep_float(step)
    replace(graph, node, row, row_scale, number, product)


def _shape_of_rows(ids: ir.Value | None, table: ir.Value) -> ir.Shape | None:
    """Returns the shape of the rows of ``table`` that ``ids`` name, None where it is not known."""
    if ids is None or ids.shape is None or table.shape is None:
        return None
    return ir.Shape([*ids.shape, *list(table.shape)[1:]])
