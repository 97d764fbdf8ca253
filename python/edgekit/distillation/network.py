"""The network of a float graph as a torch module: the same operators on torch tensors, weights that can be trained."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from edgekit.converters.passes.rewrite import constant
from edgekit.distillation.operators import OPERATORS, Call
from edgekit.targets.errors import ModelError

# By operator, the inputs whose constants are trained.
TRAINED: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "GRU": (1, 2, 3),
    "Gemm": (1, 2),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LSTM": (1, 2, 3),
    "LayerNormalization": (1, 2),
    "MatMul": (0, 1),
    "PRelu": (1,),
    "RNN": (1, 2, 3),
}
# Operators whose sums may be of bfloat16.
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


class GraphNetwork(torch.nn.Module):  # type: ignore[misc]
    """Answers as the graph does: float32, within the rounding of sums in another order.

    Constants that layers and norms multiply with and add are parameters, by the names of their values; a value that
    several nodes read is one parameter. `store` puts them back into the graph.

    Args:
        model: In canonical form, simplified; it is not changed, but by `store`.

    Raises:
        ModelError: An operator cannot be computed here; all that cannot are named.
    """

    def __init__(self, model: ir.Model) -> None:
        super().__init__()
        self.model = model
        self.nodes = list(model.graph)
        _check_operators(self.nodes)
        self.trained = _find_trained(self.nodes)
        for number, (name, value) in enumerate(self.trained.items()):
            array = np.asarray(constant(value), np.float32)
            self.register_parameter(
                f"p{number}", torch.nn.Parameter(torch.from_numpy(array.copy()))
            )
            assert name == value.name
        self._numbers = {name: f"p{number}" for number, name in enumerate(self.trained)}
        self._fixed = {
            str(value.name): torch.from_numpy(np.array(found))
            for value in model.graph.initializers.values()
            if value.name not in self.trained and (found := constant(value)) is not None
        }
        self._last_use = self._find_last_uses()
        # What is added to a parameter wherever it is read, by its name: `Adapters.change`.
        self.change: Callable[[str], Tensor | None] | None = None
        # What products multiply in, where it is not float32; they give float32.
        self.precision: torch.dtype | None = None
        # Whether numbers are those of codes, in networks that have any.
        self.rounding = True

    @property
    def input_names(self) -> list[str]:
        """Names of the graph's inputs, in order."""
        return [str(value.name) for value in self.model.graph.inputs]

    @property
    def output_names(self) -> list[str]:
        """Names of the graph's outputs, in order."""
        return [str(value.name) for value in self.model.graph.outputs]

    def weight(self, name: str) -> torch.nn.Parameter:
        """Returns the parameter that a trained value is."""
        found = getattr(self, self._numbers[name])
        assert isinstance(found, torch.nn.Parameter)
        return found

    def weights(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Yields every trained value's name and parameter, in graph order."""
        for name in self.trained:
            yield name, self.weight(name)

    def forward(
        self, inputs: Mapping[str, Tensor], wanted: Collection[str] = ()
    ) -> dict[str, Tensor]:
        """Returns the outputs, and the ``wanted`` values, by name.

        Args:
            inputs: A tensor for each input of the graph.
            wanted: Names of further values.

        Raises:
            ModelError: A node does not take what it gets.
        """
        keep = {*self.output_names, *wanted}
        known: dict[ir.Value, Tensor] = {}
        for value in self.model.graph.inputs:
            known[value] = self.enter(value, inputs[str(value.name)])
        for place, node in enumerate(self.nodes):
            given = [
                None if value is None else self.read(node, index, value, known)
                for index, value in enumerate(node.inputs)
            ]
            try:
                results = self.compute(node, given)
            except ModelError:
                raise
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                reason = str(error).strip().splitlines()[0]
                raise ModelError(f"node '{node.name}' ({node.op_type}): {reason}") from error
            for value, result in zip(node.outputs, results, strict=False):
                if result is not None:
                    known[value] = self.leave(node, value, result)
            for value in self._last_use[place]:
                if value.name not in keep:
                    known.pop(value, None)
        found = {str(value.name): self.give(value, tensor) for value, tensor in known.items()}
        for value in self.model.graph.outputs:
            name = str(value.name)
            if name in found:
                continue
            maker = value.producer()
            if maker is not None:
                raise ModelError(
                    f"node '{maker.name}' ({maker.op_type}): its output '{name}' is not computed here"
                )
            found[name] = self.constant_tensor(name)
        return {name: tensor for name, tensor in found.items() if name in keep}

    def enter(self, value: ir.Value, tensor: Tensor) -> Tensor:
        """Returns what an input of the graph is inside of it."""
        return tensor

    def read(
        self, node: ir.Node, index: int, value: ir.Value, known: Mapping[ir.Value, Tensor]
    ) -> Tensor:
        """Returns what ``node`` reads at its input ``index``."""
        return known[value] if value in known else self.constant_tensor(str(value.name))

    def compute(self, node: ir.Node, given: list[Tensor | None]) -> tuple[Tensor | None, ...]:
        """Returns the outputs of ``node``."""
        if self.precision is not None and node.op_type in _PRODUCTS:
            with torch.autocast("cpu", self.precision):
                (result,) = self.call(Call(node, given))
            return (None if result is None else result.float(),)
        return self.call(Call(node, given))

    def call(self, call: Call) -> tuple[Tensor | None, ...]:
        """Returns the outputs of a node's operator."""
        results = OPERATORS[call.node.op_type](call)
        return results if isinstance(results, tuple) else (results,)

    def leave(self, node: ir.Node, value: ir.Value, result: Tensor) -> Tensor:
        """Returns what others read of an output of ``node``."""
        return result

    def give(self, value: ir.Value, tensor: Tensor) -> Tensor:
        """Returns what is handed out of a value."""
        return tensor

    def constant_tensor(self, name: str) -> Tensor:
        """Returns a constant of the graph."""
        if name not in self._numbers:
            return self._fixed[name]
        change = None if self.change is None else self.change(name)
        return self.weight(name) if change is None else self.weight(name) + change

    def snapshot(self) -> dict[str, Any]:
        """Returns all that training changes, tensors and plain numbers, for `restore`."""
        return {name: parameter.detach().clone() for name, parameter in self.weights()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Takes what `snapshot` gave."""
        with torch.no_grad():
            for name, parameter in self.weights():
                parameter.copy_(snapshot[name])

    def further(self) -> list[torch.nn.Parameter]:
        """Returns what is trained beside weights; of floats there is nothing."""
        return []

    def renew(self) -> None:
        """Learns anew what depends on the weights and is no parameter; of floats there is nothing."""

    def float_graph(self) -> ir.Model:
        """Returns the float graph with the weights as they are now."""
        self.store()
        return self.model

    def store(self, model: ir.Model | None = None) -> None:
        """Puts the parameters into the constants of the graph (or of ``model``, by name), without loss."""
        target = self.model if model is None else model
        for name, parameter in self.weights():
            value = target.graph.initializers[name]
            array = parameter.detach().numpy().copy()
            value.const_value = ir.Tensor(array, name=name)

    def _find_last_uses(self) -> list[list[ir.Value]]:
        """Returns, for each node, the values that no later one reads."""
        last: dict[ir.Value, int] = {}
        for place, node in enumerate(self.nodes):
            for value in (*node.inputs, *node.outputs):
                if value is not None:
                    last[value] = place
        found: list[list[ir.Value]] = [[] for _ in self.nodes]
        for value, place in last.items():
            if not value.is_initializer():
                found[place].append(value)
        return found


def _find_trained(nodes: Collection[ir.Node]) -> dict[str, ir.Value]:
    """Returns the float32 constants that are read as weights and nothing else, by name, in graph order."""
    found: dict[str, ir.Value] = {}
    for node in nodes:
        for index in TRAINED.get(node.op_type, ()):
            value = node.inputs[index] if index < len(node.inputs) else None
            array = constant(value)
            if value is None or array is None or array.dtype != np.float32 or not array.size:
                continue
            uses = value.uses()
            if value.is_graph_output() or any(
                use.idx not in TRAINED.get(use.node.op_type, ()) for use in uses
            ):
                continue
            found[str(value.name)] = value
    return found


def _check_operators(nodes: Collection[ir.Node]) -> None:
    unknown: dict[str, ir.Node] = {}
    for node in nodes:
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        if node.domain or node.op_type not in OPERATORS:
            unknown.setdefault(name, node)
    if unknown:
        named = ", ".join(f"{name} (node '{node.name}')" for name, node in unknown.items())
        raise ModelError(f"distillation cannot train through these operators: {named}")
