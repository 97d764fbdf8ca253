"""A mean over height and width that is written as ReduceMean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import onnx_ir as ir

from edgekit.converters.doctor.onnx_subject import OnnxSubject
from edgekit.converters.doctor.processor import ONNX_RUNTIME
from edgekit.converters.doctor.qdq import (
    DEQUANTIZE,
    QUANTIZE,
    find_nodes,
    grid_of,
    is_operator,
    label,
    readers,
    source_of,
)
from edgekit.converters.doctor.rule import CLOSER, Finding, Promise, Rule
from edgekit.converters.passes.rewrite import (
    add_initializer,
    attribute,
    constant,
    forget_names,
    new_name,
    replace,
)

_SHAPING = ("Flatten", "Identity", "Reshape", "Squeeze")


class MeanOverPicture(Rule[OnnxSubject]):
    """ONNX Runtime has an integer GlobalAveragePool and no integer ReduceMean.

    Fix: GlobalAveragePool, quantized to the grid of the mean, and a Flatten where the mean drops its axes.
    """

    id: ClassVar[str] = "mean-over-picture"
    says: ClassVar[str] = (
        "ReduceMean over height and width between quantized values: it runs in float, GlobalAveragePool would not."
    )
    source: ClassVar[str] = (
        "https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QLinearGlobalAveragePool"
    )
    promise: ClassVar[Promise | None] = CLOSER

    def check(self, subject: OnnxSubject) -> list[Finding]:
        """Looks for means of codes that become codes again."""
        if subject.processor.engine != ONNX_RUNTIME:
            return []
        return [
            Finding(
                self.id,
                (label(node),),
                f"ReduceMean '{label(node)}' over height and width runs in float between int8 layers",
                "write it as GlobalAveragePool, which has an integer kernel",
                fixable=True,
            )
            for node in subject.graph
            if _quantizer_after(node) is not None
        ]

    def fix(self, subject: OnnxSubject, findings: Sequence[Finding]) -> int:
        """Replaces the means."""
        graph = subject.graph
        forget_names(graph)
        fixed = 0
        for finding in findings:
            for node in find_nodes(graph, finding.nodes):
                quantizer = _quantizer_after(node)
                if quantizer is not None:
                    _replace(graph, node, quantizer)
                    fixed += 1
        return fixed


def _replace(graph: ir.Graph, node: ir.Node, quantizer: ir.Node) -> None:
    source, result, grid = node.inputs[0], node.outputs[0], grid_of(quantizer)
    assert source is not None
    assert source.shape is not None
    assert grid is not None
    base = result.name or "mean"
    keeps = bool(attribute(node, "keepdims", 1))
    pool = ir.node("GlobalAveragePool", [source], name=node.name)
    made = [pool]
    direct = quantizer.inputs[0] is result
    if not keeps or not direct:
        scale = add_initializer(graph, f"{base}_scale", grid.scale)
        zero = add_initializer(graph, f"{base}_zero_point", grid.zero_point)
        made.append(ir.node(QUANTIZE, [pool.outputs[0], scale, zero], name=f"{base}_quantize"))
        made.append(
            ir.node(DEQUANTIZE, [made[-1].outputs[0], scale, zero], name=f"{base}_dequantize")
        )
        made[-2].outputs[0].dtype = ir.DataType.from_numpy(grid.dtype)
    if not keeps:
        made.append(ir.node("Flatten", [made[-1].outputs[0]], {"axis": 1}, name=f"{base}_flatten"))
    for step in made[:-1]:
        step.outputs[0].name = new_name(graph, f"{base}_{step.op_type}")
        step.outputs[0].shape = ir.Shape([*source.shape[:2], 1, 1])
        step.outputs[0].dtype = step.outputs[0].dtype or ir.DataType.FLOAT
    replace(graph, node, *made)


def _quantizer_after(node: ir.Node) -> ir.Node | None:
    """Returns the QuantizeLinear of a mean over height and width of codes, or None where ``node`` is no such mean."""
    if not is_operator(node, "ReduceMean") or source_of(node.inputs[0]) is None:
        return None
    source = node.inputs[0]
    if source is None or source.shape is None or source.shape.rank() != 4:
        return None
    axes = node.attributes.get_ints("axes", None)
    if axes is None:
        array = constant(node.inputs[1] if len(node.inputs) > 1 else None)
        axes = None if array is None else [int(axis) for axis in array.reshape(-1)]
    if axes is None or {axis % 4 for axis in axes} != {2, 3}:
        return None
    return next(_quantizers(node.outputs[0]), None)


def _quantizers(value: ir.Value) -> Iterator[ir.Node]:
    """Yields the QuantizeLinear nodes of one scale that read ``value``, or what only shapes it."""
    for reader in readers(value):
        grid = grid_of(reader)
        if is_operator(reader, QUANTIZE) and grid is not None and grid.is_single:
            yield reader
        elif is_operator(reader, *_SHAPING) and reader.inputs[0] is value:
            yield from _quantizers(reader.outputs[0])
