"""float16 constants that a DEQUANTIZE makes float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from edgekit.converters.doctor.rule import EXACT, Finding, Promise, Rule
from edgekit.converters.doctor.tflite_graph import TfliteGraph
from edgekit.converters.doctor.tflite_subject import TfliteSubject
from edgekit.converters.read_tflite.records import Operator
from edgekit.converters.read_tflite.schema import load_schema


class Float16BehindDequantize(Rule[TfliteSubject]):
    """On a CPU the weights are held twice, in float16 and in the float32 that is computed with; nothing is faster.

    Fix: the constants are written as float32 and the DEQUANTIZE operators go; the file doubles.
    """

    id: ClassVar[str] = "float16-behind-dequantize"
    says: ClassVar[str] = (
        "float16 constants behind DEQUANTIZE: the CPU computes in float32, and memory holds both."
    )
    source: ClassVar[str] = (
        "https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/post_training_float16_quant"
    )
    promise: ClassVar[Promise | None] = EXACT

    def check(self, subject: TfliteSubject) -> list[Finding]:
        """Finds one fault for all of them."""
        graph = subject.graph
        found = _dequantizers(graph)
        if not found:
            return []
        arrays = (graph.tensor(op.inputs[0]).data for op in found)
        size = sum(array.nbytes for array in arrays if array is not None)
        return [
            Finding(
                self.id,
                tuple(graph.label(op) for op in found),
                f"{len(found)} float16 constants, {size / 1e6:.3f} MB, become {2 * size / 1e6:.3f} MB of float32 when "
                "the file is loaded",
                "int8 weights (dynamic range) are smaller still and faster; or store float32",
                fixable=True,
            )
        ]

    def fix(self, subject: TfliteSubject, findings: Sequence[Finding]) -> int:
        """Stores them as float32."""
        graph = subject.graph
        wanted = {op.index for finding in findings for op in graph.find(finding.nodes)}
        chosen = [op for op in _dequantizers(graph) if op.index in wanted]
        schema = load_schema()
        with subject.change() as model:
            parts = model.subgraphs[0]
            for op in chosen:
                source, result = graph.tensor(op.inputs[0]), parts.tensors[op.outputs[0]]
                assert source.data is not None
                real = np.ascontiguousarray(source.data.astype("<f4"))
                buffer = schema.BufferT()
                buffer.data = real.view(np.uint8).reshape(-1)
                model.buffers.append(buffer)
                result.buffer = len(model.buffers) - 1
                old = parts.tensors[source.index]
                if len(graph.users(source)) == 1:
                    # Nothing reads it any more; an empty tensor of no elements is what the format has for that.
                    old.buffer, old.shape, old.type = 0, np.zeros(1, np.int32), result.type
                    old.quantization = None
            gone = {op.index for op in chosen}
            parts.operators = [op for index, op in enumerate(parts.operators) if index not in gone]
            _drop_unused_buffers(model)
        return len(findings)


def _dequantizers(graph: TfliteGraph) -> list[Operator]:
    found = []
    for op in graph.file.operators:
        source = graph.operand(op, 0)
        if (
            op.code == "DEQUANTIZE"
            and source is not None
            and source.type == "FLOAT16"
            and source.data is not None
            and not graph.is_output(graph.result(op))
        ):
            found.append(op)
    return found


def _drop_unused_buffers(model: Any) -> None:
    """Empties the buffers that nothing names; their places stay, since numbers refer to them."""
    parts = model.subgraphs
    used = {tensor.buffer for part in parts for tensor in part.tensors}
    used |= {item.buffer for item in model.metadata or ()}
    for index, buffer in enumerate(model.buffers):
        if index not in used:
            buffer.data = None
