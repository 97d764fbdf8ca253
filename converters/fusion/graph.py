"""Who makes and who reads each value of an ONNX graph."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

_SUBGRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


class Graph:
    """The nodes of a file by their values.

    Attributes:
        nodes: In the file's order.
        constants: Names of the initializers.
    """

    def __init__(self, proto: onnx.GraphProto) -> None:
        self.nodes = tuple(proto.node)
        self.constants = {tensor.name for tensor in proto.initializer}
        self._makers = {name: node for node in self.nodes for name in node.output if name}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        known = set(self.constants)
        self._computed: set[int] = set()
        for node in self.nodes:
            inside = any(attribute.type in _SUBGRAPHS for attribute in node.attribute)
            if inside or not all(name in known for name in node.input if name):
                self._computed.add(id(node))
            else:
                known.update(node.output)

    def is_computed(self, node: onnx.NodeProto) -> bool:
        """Whether ``node`` depends on an input of the graph; what does not is computed when a session is made."""
        return id(node) in self._computed

    def maker(self, name: str) -> onnx.NodeProto | None:
        """Returns the node that makes the value ``name``, None for inputs and constants."""
        return self._makers.get(name)

    def readers(self, names: Iterable[str]) -> list[onnx.NodeProto]:
        """Returns the nodes that read any of the values ``names``."""
        return [reader for name in names for reader in self._readers.get(name, [])]
