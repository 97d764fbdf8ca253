"""FoldConstants: computes at conversion what does not depend on the inputs."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from edgekit.converters.passes.rewrite import GraphPass, Skip, add_initializer, constant, skip

logger = logging.getLogger(__name__)

_RANDOM = frozenset(
    {
        "RandomNormal",
        "RandomUniform",
        "RandomNormalLike",
        "RandomUniformLike",
        "Multinomial",
        "Bernoulli",
    }
)


class FoldConstants(GraphPass):
    """Computes at conversion what does not depend on the inputs, with ONNX's reference evaluator.

    Rules:
        ``Op(constants...) -> constant``, of at most ``max_elements`` elements an output, where Op is a
        standard operator without subgraphs and without randomness;
        ``Shape(x) -> constant`` and ``Size(x) -> constant`` where the shape of x is static.

    Args:
        max_elements: Bound on the size of each folded output, so that a small file cannot grow large.
    """

    def __init__(self, max_elements: int = 1 << 22) -> None:
        super().__init__()
        self.max_elements = max_elements

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces the outputs of ``node`` by initializers."""
        if node.op_type in ("Shape", "Size"):
            arrays = _measure(node)
        elif node.op_type in _RANDOM or node.op_type.endswith("QuantizeLinear"):
            return None
        else:
            inputs = {
                str(value.name): constant(value) for value in node.inputs if value is not None
            }
            if not inputs or any(array is None for array in inputs.values()):
                return None
            if any(
                a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
                for a in node.attributes.values()
            ):
                return skip(node, "it has a subgraph")
            if _static_size(node) > self.max_elements:
                return skip(node, f"its output has more than {self.max_elements} elements")
            outcome = _evaluate(node, inputs)
            if isinstance(outcome, str):
                return skip(node, outcome)
            arrays = outcome
        if arrays is None:
            return None
        if any(array.size > self.max_elements for array in arrays):
            return skip(node, f"its output has more than {self.max_elements} elements")
        if any(value.is_graph_output() for value in node.outputs):
            return skip(node, "its output is the model's")
        for value, array in zip(node.outputs, arrays, strict=True):
            value.replace_all_uses_with(add_initializer(graph, f"{value.name}_folded", array))
        graph.remove(node, safe=True)
        return "computed at conversion"


def _static_size(node: ir.Node) -> float:
    """Returns the elements of the largest output whose shape is known, before it is computed."""
    shapes = [value.shape for value in node.outputs]
    sizes = [
        np.prod(s.numpy(), dtype=np.float64) for s in shapes if s is not None and s.is_static()
    ]
    return float(max(sizes, default=0.0))


def _measure(node: ir.Node) -> list[npt.NDArray[np.generic]] | None:
    source = node.inputs[0]
    if source is None or source.shape is None:
        return None
    dims = list(source.shape)
    if node.op_type == "Shape":
        start, end = node.attributes.get("start"), node.attributes.get("end")
        dims = dims[start.as_int() if start else 0 : end.as_int() if end else len(dims)]
    if not all(isinstance(dim, int) for dim in dims):
        return None
    shape = np.array(dims, np.int64)
    return [shape if node.op_type == "Shape" else np.array(shape.prod(), np.int64)]


def _evaluate(
    node: ir.Node, inputs: dict[str, npt.NDArray[np.generic] | None]
) -> list[npt.NDArray[np.generic]] | str:
    """Returns the outputs, or the reason why there are none."""
    try:
        outputs = ReferenceEvaluator(ir.to_proto(node)).run(None, inputs)
    except Exception as error:
        # The evaluator covers every operator by third-party code, which raises whatever it likes.
        logger.debug("cannot fold %s: %s", node.name, error)
        return f"the reference evaluator failed: {type(error).__name__}"
    if not all(isinstance(array, np.ndarray | np.generic) for array in outputs):
        return "it does not make tensors"
    return [np.asarray(array) for array in outputs]
