"""A clamp that is an operator of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from edgekit.converters.doctor.rule import EXACT, Finding, Promise, Rule
from edgekit.converters.doctor.tflite_graph import TfliteGraph
from edgekit.converters.doctor.tflite_subject import TfliteSubject
from edgekit.converters.read_tflite.records import Operator, Tensor
from edgekit.converters.read_tflite.schema import load_schema

_CLAMPS = ("RELU", "RELU6", "RELU_N1_TO_1")
_LAYERS = ("ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MUL", "SUB")


class UnfusedActivation(Rule[TfliteSubject]):
    """Layers clamp their results for nothing; a RELU of its own reads and writes every value once more.

    Fix: the layer clamps, and the operator goes. Codes are clamped so only where both have the same scale.
    """

    id: ClassVar[str] = "unfused-activation"
    says: ClassVar[str] = "A RELU or RELU6 stands alone behind a layer that could clamp by itself."
    source: ClassVar[str] = "https://ai.google.dev/edge/litert/models/ops_compatibility"
    promise: ClassVar[Promise | None] = EXACT

    def check(self, subject: TfliteSubject) -> list[Finding]:
        """Looks at what is before each clamp."""
        graph = subject.graph
        found = []
        for clamp in graph.file.operators:
            layer = _layer_before(graph, clamp)
            if layer is not None:
                found.append(
                    Finding(
                        self.id,
                        (graph.label(clamp),),
                        f"{clamp.code} stands alone behind {layer.code} '{graph.label(layer)}'",
                        "let the converter fuse it, or remove what keeps them apart",
                        fixable=True,
                    )
                )
        return found

    def fix(self, subject: TfliteSubject, findings: Sequence[Finding]) -> int:
        """Moves clamps into layers."""
        graph = subject.graph
        clamps = [op for finding in findings for op in graph.find(finding.nodes)]
        pairs = [(clamp, layer) for clamp in clamps if (layer := _layer_before(graph, clamp))]
        kinds = load_schema().ActivationFunctionType
        with subject.change() as model:
            part = model.subgraphs[0]
            for clamp, layer in pairs:
                options = part.operators[layer.index].builtinOptions
                options.fusedActivationFunction = getattr(kinds, clamp.code)
                part.operators[layer.index].outputs = np.array(clamp.outputs, np.int32)
            gone = {clamp.index for clamp, _ in pairs}
            part.operators = [op for index, op in enumerate(part.operators) if index not in gone]
        return len(pairs)


def _layer_before(graph: TfliteGraph, clamp: Operator) -> Operator | None:
    """Returns the layer that could clamp, where only ``clamp`` reads it."""
    source = graph.operand(clamp, 0) if clamp.code in _CLAMPS else None
    layer = None if source is None else graph.maker(source)
    if source is None or layer is None or layer.code not in _LAYERS or len(layer.outputs) != 1:
        return None
    if graph.is_output(source) or len(graph.users(source)) != 1:
        return None
    if not layer.options or layer.options.get("FusedActivationFunction", -1) != 0:
        return None
    return layer if _same_numbers(source, graph.result(clamp)) else None


def _same_numbers(a: Tensor, b: Tensor) -> bool:
    """Returns whether floats, or codes of one meaning, are in both."""
    if a.type != b.type:
        return False
    if a.type == "FLOAT32":
        return True
    if a.grid is None or b.grid is None or a.grid.scale.size != 1 or b.grid.scale.size != 1:
        return False
    same_scale = float(a.grid.scale[0]) == float(b.grid.scale[0])
    return same_scale and int(a.grid.zero_point[0]) == int(b.grid.zero_point[0])
