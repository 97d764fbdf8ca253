"""What every pass of edgekit is: requires, apply, ensures, and a report of what it did and did not do.

Passes work on the main graph of a model in canonical form (see ``read_onnx``), in place. They are idempotent:
applied again at once, a pass reports no change.
"""

from __future__ import annotations

import abc
import dataclasses

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

_NAMES_KEY = "edgekit.names"


@dataclasses.dataclass(frozen=True)
class Skip:
    """A node that a pass looked at and left alone, and why."""

    node: str
    reason: str


@dataclasses.dataclass
class PassReport(ir.passes.PassResult):
    """What one pass did.

    Attributes:
        name: The pass's class.
        changed: A line for each rewrite, in the order in which they were made.
        skipped: The nodes that have the right operator and could not be rewritten.
    """

    name: str = ""
    changed: list[str] = dataclasses.field(default_factory=list)
    skipped: list[Skip] = dataclasses.field(default_factory=list)


class GraphPass(ir.passes.InPlacePass):
    """A pass over the nodes of the main graph, in topological order.

    A subclass lists its rewrite rules in its docstring and implements ``rewrite``. Calling a pass checks
    ``requires``, applies it and checks ``ensures``.
    """

    ops: frozenset[str] = frozenset()

    def requires(self, model: ir.Model) -> None:
        """Checks that the model is in canonical form."""
        if model.functions:
            raise ir.passes.PreconditionError(f"{type(self).__name__}: functions must be inlined")

    def ensures(self, model: ir.Model) -> None:
        """Checks that every input of every node is made before it is used."""
        known: set[ir.Value] = {*model.graph.inputs, *model.graph.initializers.values()}
        for node in model.graph:
            missing = [value for value in node.inputs if value is not None and value not in known]
            if missing:
                raise ir.passes.PostconditionError(
                    f"{type(self).__name__}: node '{node.name}' uses '{missing[0].name}' before it is made"
                )
            known.update(node.outputs)

    def call(self, model: ir.Model) -> PassReport:
        """Applies the pass to each node whose operator is one of ``ops`` (all, where it is empty)."""
        report = PassReport(model, False, name=type(self).__name__)
        forget_names(model.graph)
        for node in tuple(model.graph):
            if node.domain or (self.ops and node.op_type not in self.ops):
                continue
            label = f"{node.op_type} '{node.name}'"
            outcome = self.rewrite(model.graph, node)
            if isinstance(outcome, Skip):
                report.skipped.append(outcome)
            elif outcome is not None:
                report.changed.append(f"{label}: {outcome}")
        forget_names(model.graph)
        report.modified = bool(report.changed)
        return report

    @abc.abstractmethod
    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Rewrites ``node`` and says how; a Skip says why not; None says that the rule is not about it."""


def skip(node: ir.Node, reason: str) -> Skip:
    """Returns the note that ``node`` was left alone."""
    return Skip(node.name or node.op_type, reason)


def constant(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """Returns the array of an initializer, or None where ``value`` is absent or computed."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def attribute(node: ir.Node, name: str, default: int) -> int:
    """Returns an integer attribute of ``node``."""
    found = node.attributes.get(name)
    return default if found is None else found.as_int()


def only_consumer(value: ir.Value) -> ir.Node | None:
    """Returns the one node that uses ``value`` once, if nothing else does: no other node, no graph output."""
    uses = value.uses()
    if value.is_graph_output() or len(uses) != 1:
        return None
    return next(iter(uses)).node


def new_name(graph: ir.Graph, base: str) -> str:
    """Returns a value name that ``graph`` does not have yet."""
    taken = graph.meta.get(_NAMES_KEY)
    if taken is None:
        taken = {value.name for value in (*graph.inputs, *graph.initializers.values())}
        taken.update(value.name for node in graph.all_nodes() for value in node.outputs)
        graph.meta[_NAMES_KEY] = taken
    name, count = base, 1
    while name in taken:
        name, count = f"{base}_{count}", count + 1
    taken.add(name)
    return name


def forget_names(graph: ir.Graph) -> None:
    """Lets ``new_name`` look at the graph again: to be called where names may have been given without it."""
    graph.meta.pop(_NAMES_KEY, None)


def add_initializer(graph: ir.Graph, base: str, array: npt.NDArray[np.generic]) -> ir.Value:
    """Registers ``array`` as a new initializer named after ``base``."""
    name = new_name(graph, base)
    value = ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        const_value=ir.Tensor(np.asarray(array, order="C"), name=name),
    )
    graph.register_initializer(value)
    return value


def bypass(graph: ir.Graph, node: ir.Node, source: ir.Value) -> bool:
    """Removes ``node`` and lets the users of its first output use ``source``.

    Returns:
        False, with nothing changed, where the output is the graph's and ``source`` cannot take its name.
    """
    output = node.outputs[0]
    if output.is_graph_output():
        if source.is_graph_input() or source.is_initializer() or source.is_graph_output():
            return False
        name = output.name
        source.shape = source.shape or output.shape
        output.replace_all_uses_with(source, replace_graph_outputs=True)
        output.name = None
        source.name = name
    else:
        output.replace_all_uses_with(source)
    graph.remove(node, safe=True)
    return True


def replace(graph: ir.Graph, node: ir.Node, *new_nodes: ir.Node) -> None:
    """Puts ``new_nodes`` in the place of ``node``; the last one's first output takes over its first output."""
    ir.convenience.replace_nodes_and_values(
        graph, node, [node], new_nodes, [node.outputs[0]], [new_nodes[-1].outputs[0]]
    )
