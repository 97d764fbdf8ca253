"""What an operator is given: its node's attributes and the tensors at its inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import onnx_ir as ir
from torch import Tensor

from edgekit.targets.errors import ModelError


@dataclass(frozen=True)
class Call:
    """One node on its inputs.

    Attributes:
        node: The node.
        inputs: A tensor for each input, None where it is left out.
        exact_codes: Whether the node computes on what int8 codes stand for, so that numbers which docs/arithmetic.md
            rounds when a model is compiled are rounded here.
    """

    node: ir.Node
    inputs: list[Tensor | None]
    exact_codes: bool = False

    def get(self, index: int) -> Tensor | None:
        """Returns an input that may be left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def __getitem__(self, index: int) -> Tensor:
        found = self.get(index)
        if found is None:
            self.refuse(f"it lacks its input {index}")
        return found

    def integer(self, name: str, default: int) -> int:
        """Returns an attribute."""
        found = self.node.attributes.get(name)
        return default if found is None else int(found.as_int())

    def number(self, name: str, default: float) -> float:
        """Returns an attribute."""
        found = self.node.attributes.get(name)
        return default if found is None else float(found.as_float())

    def text(self, name: str, default: str) -> str:
        """Returns an attribute."""
        found = self.node.attributes.get(name)
        return default if found is None else str(found.as_string())

    def integers(self, name: str) -> list[int] | None:
        """Returns an attribute, None where it is left out."""
        found = self.node.attributes.get(name)
        return None if found is None else [int(value) for value in found.as_ints()]

    def whole_numbers(self, index: int) -> list[int] | None:
        """Returns an input of whole numbers, None where it is left out or empty."""
        found = self.get(index)
        if found is None or not found.numel():
            return None
        return [int(value) for value in found.reshape(-1).tolist()]

    def axes(self, name: str = "axes", index: int = 1) -> list[int] | None:
        """Returns dimensions, an attribute in old operator sets and an input in new ones."""
        given = self.integers(name)
        return self.whole_numbers(index) if given is None else given

    def refuse(self, reason: str) -> NoReturn:
        """Raises the error that names the node.

        Raises:
            ModelError: Always.
        """
        raise ModelError(f"node '{self.node.name}' ({self.node.op_type}): {reason}")


# One tensor, or one for each output.
Operator = Callable[[Call], Tensor | tuple[Tensor | None, ...]]
