"""Who makes and who reads each tensor of a TensorFlow Lite file, and how its rules call operators."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.converters.read_tflite.file import TfliteFile
from edgekit.converters.read_tflite.records import Operator, Tensor


@dataclass(frozen=True)
class TfliteGraph:
    """A file's main subgraph with its edges.

    Attributes:
        file: The file.
        makers: Operator that makes a tensor, by the tensor's index.
        readers: Operators that read it, each once.
    """

    file: TfliteFile
    makers: dict[int, Operator]
    readers: dict[int, tuple[Operator, ...]]

    @classmethod
    def of(cls, file: TfliteFile) -> TfliteGraph:
        """Returns the graph of ``file``."""
        makers = {index: op for op in file.operators for index in op.outputs}
        readers: dict[int, tuple[Operator, ...]] = {}
        for op in file.operators:
            for index in dict.fromkeys(op.inputs):
                if index >= 0:
                    readers[index] = (*readers.get(index, ()), op)
        return cls(file, makers, readers)

    def tensor(self, index: int) -> Tensor:
        """Returns the tensor at ``index``."""
        return self.file.tensors[index]

    def operand(self, op: Operator, place: int) -> Tensor | None:
        """Returns the input of ``op`` at ``place``, None where it is left out."""
        if len(op.inputs) <= place or op.inputs[place] < 0:
            return None
        return self.tensor(op.inputs[place])

    def maker(self, tensor: Tensor) -> Operator | None:
        """Returns the operator that makes ``tensor``; None of a constant or an input."""
        return self.makers.get(tensor.index)

    def users(self, tensor: Tensor) -> tuple[Operator, ...]:
        """Returns the operators that read ``tensor``."""
        return self.readers.get(tensor.index, ())

    def is_output(self, tensor: Tensor) -> bool:
        """Returns whether ``tensor`` leaves the graph."""
        return any(tensor.index == index for _, index in self.file.outputs)

    def result(self, op: Operator) -> Tensor:
        """Returns the first output of ``op``."""
        return self.tensor(op.outputs[0])

    def label(self, op: Operator) -> str:
        """Returns how reports call ``op``, which has no name: by its first output."""
        return self.result(op).name or f"operator {op.index}"

    def find(self, names: tuple[str, ...]) -> list[Operator]:
        """Returns the operators that reports call by ``names``."""
        wanted = set(names)
        return [op for op in self.file.operators if self.label(op) in wanted]
