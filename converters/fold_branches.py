"""Takes branches out of a graph: the side that an input bound to a constant or the shapes decide on, else both."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common

from edgekit.converters.branches import drop_node, give_result, move_branch
from edgekit.converters.passes.fold_constants import FoldConstants
from edgekit.converters.passes.rewrite import (
    GraphPass,
    PassReport,
    Skip,
    add_initializer,
    constant,
    forget_names,
    skip,
)
from edgekit.converters.read_onnx import infer_shapes
from edgekit.converters.select_branches import CONTROL, SelectIf
from edgekit.targets.errors import ModelError

# By the input's name.
Constants = Mapping[str, npt.ArrayLike]

_MAX_ROUNDS = 64


def bind_inputs(model: ir.Model, constants: Constants) -> None:
    """Makes inputs of ``model`` constants, in place.

    Raises:
        ModelError: There is no such input, or the value does not fit it.
    """
    graph = model.graph
    inputs = {str(value.name): value for value in graph.inputs}
    for name, given in constants.items():
        value = inputs.get(name)
        if value is None:
            raise ModelError(
                f"there is no input '{name}' to bind to a constant: the model has {', '.join(sorted(inputs))}"
            )
        if len(inputs) == 1:
            raise ModelError(
                f"input '{name}' is the only one: a network of constants computes nothing"
            )
        array = _fit(value, given)
        forget_names(graph)
        bound = add_initializer(graph, f"{name}:constant", array)
        value.replace_all_uses_with(bound)
        graph.inputs.remove(value)
        del inputs[name]
    forget_names(graph)
    infer_shapes(model)


def fold_branches(model: ir.Model) -> list[str]:
    """Takes each If out of ``model`` that can be, in place.

    One whose condition can be computed is replaced by its side, others by a choice between both (`SelectIf`).

    Returns:
        A note of each that both sides are computed of.
    """
    changed, notes = False, []
    for _ in range(_MAX_ROUNDS):
        if not any(node.op_type in CONTROL for node in model.graph):
            break
        reports = [graph_pass(model) for graph_pass in (FoldConstants(), FoldIf())]
        common.RemoveUnusedNodesPass()(model)
        if not any(report.modified for report in reports):
            # Only now: what can be computed is, and shapes are known as far as they will be.
            selection = SelectIf()(model)
            assert isinstance(selection, PassReport)
            if not selection.modified:
                break
            notes += selection.changed
        changed = True
        infer_shapes(model)
    if changed:
        common.RemoveUnusedNodesPass()(model)
        _forget_unused(model.graph)
    return notes


def _forget_unused(graph: ir.Graph) -> None:
    """Drops constants of sides that were not taken; those that a remaining subgraph reads are used."""
    for name, value in tuple(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]


class FoldIf(GraphPass):
    """Puts the side of an If in its place.

    Rules:
        ``If(constant, then, else) -> then or else``.
    """

    ops = frozenset({"If"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Moves the nodes of one branch out of ``node``, which goes."""
        condition = constant(node.inputs[0])
        if condition is None or condition.size != 1:
            return skip(node, "its condition is computed when the network runs")
        side = "then_branch" if bool(condition.reshape(())) else "else_branch"
        branch = node.attributes[side].as_graph()
        results = move_branch(graph, node, branch)
        for value, result in zip(node.outputs, results, strict=True):
            give_result(graph, node, value, result)
        drop_node(graph, node)
        return f"its {side} took its place"


def _fit(value: ir.Value, given: npt.ArrayLike) -> npt.NDArray[np.generic]:
    """Returns ``given`` in the type and a shape of the input."""
    name = value.name
    try:
        array = np.asarray(given)
        dtype = np.dtype(np.float32) if value.dtype is None else value.dtype.numpy()
        fitted = array.astype(dtype)
    except (TypeError, ValueError) as error:
        raise ModelError(f"input '{name}' cannot be bound to {given!r}: {error}") from error
    if array.dtype.kind not in "biuf" or not np.array_equal(fitted, array):
        raise ModelError(f"input '{name}' is {dtype} and cannot be {given!r}")
    shape = None if value.shape is None else list(value.shape)
    if shape is not None:
        if fitted.size == 1 and all(dim == 1 for dim in shape if isinstance(dim, int)):
            fitted = fitted.reshape((1,) * len(shape))
        fits = len(shape) == fitted.ndim and all(
            not isinstance(dim, int) or dim == size
            for dim, size in zip(shape, fitted.shape, strict=True)
        )
        if not fits:
            raise ModelError(
                f"input '{name}' has the shape {shape} and cannot be of shape {list(fitted.shape)}"
            )
    return fitted


def parse_constant(text: str) -> tuple[str, list[float]]:
    """Reads ``NAME=16000`` or ``NAME=1,2,3``.

    Raises:
        ModelError: The text is something else.

    >>> parse_constant("sr=16000")
    ('sr', [16000.0])
    """
    name, separator, numbers = text.rpartition("=")
    try:
        values = [float(part) for part in numbers.split(",")]
    except ValueError:
        values = []
    if not separator or not name or not values:
        raise ModelError(f"'{text}' is no constant: write NAME=16000")
    return name, values
