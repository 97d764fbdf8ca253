"""What the writer knows while it walks a program: the file so far, and how to refuse an operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from edgekit.converters.program import (
    MAX_CODE,
    MIN_CODE,
    DType,
    Op,
    Program,
    Tensor,
    codes_name,
)
from edgekit.converters.tflite.codes import Codes
from edgekit.converters.tflite.model_file import Grid, ModelFile
from edgekit.converters.tflite.schema import schema
from edgekit.targets.errors import ModelError

Array = npt.NDArray[Any]
Clamp = Callable[[], None]
Bounds = tuple[float, float]


class Weights(Enum):
    """How the weights of layers that compute in float32 are stored."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


class State:
    """The file under construction.

    Attributes:
        program: What is written.
        weights: How the weights of float32 layers are stored.
        stored: How codes are.
        clamps: Bounds of values by name, which saturate in int8 and must be written where codes are wider.
        file: The file so far.
        channels_last: Inputs and outputs that lie NHWC in the file where the source model has NCHW.
    """

    def __init__(
        self,
        program: Program,
        weights: Weights,
        stored: Codes,
        clamps: Mapping[str, Bounds],
        beside: State | None = None,
    ) -> None:
        """Starts a file, or a further subgraph in that of ``beside``."""
        self.program = program
        self.weights = weights
        self.stored = stored
        self.clamps = clamps
        self.file: ModelFile = ModelFile(None if beside is None else beside.file)
        self.channels_last: set[str] = set()
        self._indices: dict[str, int] = {}

    def tensor(self, name: str) -> Tensor:
        """Returns a tensor of the program."""
        return self.program.tensors[name]

    def index(self, name: str) -> int:
        """Returns the file's index of a tensor of the program, adding it where it is new."""
        if name not in self._indices:
            tensor = self.program.tensors[name]
            data = self.program.constants.get(name)
            self._indices[name] = self.codes(name, tensor.shape, tensor, data)
        return self._indices[name]

    def put(self, name: str, index: int) -> None:
        """Says which tensor of the file stands for a tensor of the program."""
        self._indices[name] = index

    def codes(
        self, name: str, shape: Sequence[int], like: Tensor, data: Array | None = None
    ) -> int:
        """Adds a tensor that the program lacks, of the type and grid of ``like``."""
        dtype = self.stored.dtype if like.dtype is DType.CODE else like.dtype.numpy
        elements = None if data is None else self.stored.elements(data, like)
        return self.file.add_tensor(name, shape, dtype, self.stored.grid(like), elements)

    def factor(self, value: float) -> int:
        """Adds the code 1 or -1 that stands for ``value``."""
        one = np.array([1 if value > 0 else -1], self.stored.dtype)
        grid = Grid(np.array([abs(value)], np.float32))
        return self.file.add_tensor("factor", (1,), self.stored.dtype, grid, one)

    def integers(self, values: Sequence[int] | Sequence[Sequence[int]]) -> int:
        """Adds the int32 constant of a parameter."""
        return self.file.add_parameter("parameter", np.array(values, np.int32))

    def scalar(self, value: float) -> int:
        """Adds the float32 constant of a parameter."""
        return self.file.add_parameter("scalar", np.array([value], np.float32))

    def add(
        self,
        operator: str,
        inputs: Sequence[int],
        output: int,
        options: Any = None,
    ) -> None:
        """Appends an operator, named as in the schema; its options' table names their type."""
        kind = schema.BuiltinOptions.NONE
        if options is not None:
            kind = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.file.add_operator(
            getattr(schema.BuiltinOperator, operator), inputs, [output], kind, options
        )

    def clamped(self, name: str, lo: int, hi: int) -> tuple[int, Clamp]:
        """Returns the tensor for an operator to write codes of ``name`` to, and what is left to do with it.

        Ranges do the work of clamps in what `quantize` makes: then the tensor is that of ``name`` and nothing is left.
        """
        output = self.index(name)
        bounds = [
            (operator, bound)
            for operator, bound, end in (("MAXIMUM", lo, MIN_CODE), ("MINIMUM", hi, MAX_CODE))
            if bound != end
        ]
        y = self.tensor(name)
        if self.stored.is_wide:
            bounds = self._wide_bounds(name, y)
        if not bounds:
            return output, lambda: None
        steps = [self.codes(f"{name}:unbounded", y.shape, y) for _ in bounds]

        def clamp() -> None:
            for (operator, bound), source, target in zip(
                bounds, steps, [*steps[1:], output], strict=True
            ):
                limit = self.codes(f"{name}:bound", (1,), y, np.array([bound], np.int64))
                self.add(operator, [source, limit], target, schema.MaximumMinimumOptionsT())

        return steps[0], clamp

    def _wide_bounds(self, name: str, y: Tensor) -> list[tuple[str, int]]:
        """Returns the clamps of a value that 16 bits do not saturate at, as codes of the program."""
        lo, hi = self.clamps.get(name.removesuffix(codes_name("")), (-math.inf, math.inf))
        ends = (("MAXIMUM", lo), ("MINIMUM", hi))
        return [
            (operator, round(bound / float(y.scale)) + y.zero_point)
            for operator, bound in ends
            if math.isfinite(bound)
        ]


def refuse(op: Op, reason: str) -> NoReturn:
    """Raises the error of an operator that the TFLite form cannot hold.

    Raises:
        ModelError: Always; names the node, the operator, the reason and the forms that take it.
    """
    raise ModelError(
        f"node {op.name!r} ({op.kind}): {reason}, so the TFLite form cannot hold it. "
        "The native form can, and so can the ONNX form: deploy it with format native or onnx."
    )
