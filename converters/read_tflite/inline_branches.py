"""Puts the subgraphs of each IF where it stands: both are computed, and SELECT_V2 takes the elements of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn

from edgekit.converters.read_tflite.records import Operator, Tensor

_SIDES = ("ThenSubgraphIndex", "ElseSubgraphIndex")


@dataclass(frozen=True)
class Subgraph:
    """A subgraph of a file.

    Attributes:
        tensors: By index.
        operators: In order of execution.
        inputs: Tensors by index.
        outputs: Tensors by index.
    """

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def inline_branches(read: Callable[[int], Subgraph], refuse: Callable[[str], NoReturn]) -> Subgraph:
    """Returns the main subgraph, which keeps its tensors' indices, with those of its branches behind.

    Args:
        read: Returns a subgraph by index; counts what it reads, and so bounds what a forged file can take.
        refuse: Raises the error of a file that cannot be read.
    """
    inliner = _Inliner(read, refuse)
    main = read(0)
    outputs = inliner.add(main, (0,), {})
    return Subgraph(tuple(inliner.tensors), tuple(inliner.operators), main.inputs, outputs)


class _Inliner:
    def __init__(self, read: Callable[[int], Subgraph], refuse: Callable[[str], NoReturn]) -> None:
        self._read = read
        self._refuse = refuse
        self.tensors: list[Tensor] = []
        self.operators: list[Operator] = []

    def add(
        self, graph: Subgraph, above: tuple[int, ...], given: dict[int, int]
    ) -> tuple[int, ...]:
        """Adds a subgraph below those of the indices ``above``; returns the tensors that its outputs are.

        ``given`` says which tensors its inputs are.
        """
        places: dict[int, int] = {-1: -1}
        for tensor in graph.tensors:
            places[tensor.index] = given.get(tensor.index, len(self.tensors))
            if tensor.index not in given:
                self.tensors.append(replace(tensor, index=len(self.tensors)))
        for operator in graph.operators:
            moved = replace(
                operator,
                inputs=tuple(places[index] for index in operator.inputs),
                outputs=tuple(places[index] for index in operator.outputs),
            )
            if operator.code == "IF":
                self._choose(moved, above)
            else:
                self.operators.append(moved)
        return tuple(places[index] for index in graph.outputs)

    def _choose(self, operator: Operator, above: tuple[int, ...]) -> None:
        label = f"operator {operator.index} (IF)"
        condition, *given = operator.inputs or (-1,)
        sides = []
        for side in _SIDES:
            index = int(operator.options.get(side, 0))
            if index in above:
                self._refuse(f"damaged: {label} is inside of its own branch")
            graph = self._read(index)
            if (len(graph.inputs), len(graph.outputs)) != (len(given), len(operator.outputs)):
                self._refuse(f"damaged: {label} and its branch take or give not the same number")
            if condition < 0 or -1 in given or len(set(graph.inputs)) != len(given):
                self._refuse(f"damaged: an input of {label} or of its branch is missing")
            bound = dict(zip(graph.inputs, given, strict=True))
            sides.append(self.add(graph, (*above, index), bound))
        for output, *both in zip(operator.outputs, *sides, strict=True):
            y, then, other = (self.tensors[index] for index in (output, *both))
            if not (y.shape == then.shape == other.shape and y.type == then.type == other.type):
                self._refuse(
                    f"{label}: its branches give {then.type}{list(then.shape)} and {other.type}{list(other.shape)}, "
                    "of which none can be taken by element: convert the model again without control flow"
                )
            self.operators.append(
                Operator(operator.index, "SELECT_V2", (condition, *both), (output,), {})
            )
