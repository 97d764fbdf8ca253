"""Float operators between a DEQUANTIZE and a QUANTIZE."""

from __future__ import annotations

from typing import ClassVar

from edgekit.converters.doctor.rule import Finding, Rule
from edgekit.converters.doctor.tflite_graph import TfliteGraph
from edgekit.converters.doctor.tflite_subject import TfliteSubject
from edgekit.converters.read_tflite.records import Operator, Tensor

_CODES = ("INT8", "UINT8", "INT16")


class TfliteFloatIsland(Rule[TfliteSubject]):
    """A converter leaves float what has no integer kernel, and converts codes to floats and back around it."""

    id: ClassVar[str] = "float-island"
    says: ClassVar[str] = (
        "Float operators between DEQUANTIZE and QUANTIZE inside a quantized graph."
    )
    source: ClassVar[str] = "https://ai.google.dev/edge/litert/models/quantization_spec"

    def check(self, subject: TfliteSubject) -> list[Finding]:
        """Follows floats from each DEQUANTIZE of computed codes to a QUANTIZE."""
        graph = subject.graph
        seen: set[int] = set()
        found = []
        for op in graph.file.operators:
            if not _opens(graph, op) or op.index in seen:
                continue
            island, closes = _follow(graph, op)
            seen |= {item.index for item in island}
            inner = [item for item in island if item.code not in ("DEQUANTIZE", "QUANTIZE")]
            if not closes or not inner:
                continue
            kinds = ", ".join(dict.fromkeys(item.code for item in inner))
            found.append(
                Finding(
                    self.id,
                    tuple(graph.label(item) for item in inner),
                    f"{kinds} in float between codes",
                    "write it with operators that have integer kernels, or quantize it as well",
                )
            )
        return found


def _opens(graph: TfliteGraph, op: Operator) -> bool:
    source = graph.operand(op, 0)
    return (
        op.code == "DEQUANTIZE"
        and source is not None
        and source.type in _CODES
        and source.data is None
    )


def _follow(graph: TfliteGraph, start: Operator) -> tuple[list[Operator], bool]:
    """Returns what hangs together with ``start`` through computed floats, and whether codes come of it."""
    island: dict[int, Operator] = {}
    waiting = [start]
    closes = False
    while waiting:
        op = waiting.pop()
        if op.index in island:
            continue
        island[op.index] = op
        floats: list[Tensor] = []
        if not _opens(graph, op):
            floats += [graph.tensor(index) for index in op.inputs if index >= 0]
        if op.code == "QUANTIZE":
            closes = True
        else:
            floats += [graph.tensor(index) for index in op.outputs]
        for tensor in floats:
            if tensor.data is not None or tensor.type != "FLOAT32":
                continue
            maker = graph.maker(tensor)
            waiting += [*graph.users(tensor), *([maker] if maker else [])]
    return [island[index] for index in sorted(island)], closes
