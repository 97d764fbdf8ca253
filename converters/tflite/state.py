"""What the writer knows while it walks a program: the file so far, and how to refuse an operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from edgekit.converters.program import MAX_CODE, MIN_CODE, DType, Op, Program, Tensor
from edgekit.converters.tflite.model_file import Grid, ModelFile
from edgekit.converters.tflite.schema import schema
from edgekit.targets.errors import ModelError

Array = npt.NDArray[Any]
Clamp = Callable[[], None]


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
        file: The file so far.
        channels_last: Inputs and outputs that lie NHWC in the file where the source model has NCHW.
    """

    def __init__(self, program: Program, weights: Weights) -> None:
        self.program = program
        self.weights = weights
        self.file = ModelFile()
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
            self._indices[name] = self.file.add_tensor(
                name, tensor.shape, tensor.dtype.numpy, grid_of(tensor), data
            )
        return self._indices[name]

    def put(self, name: str, index: int) -> None:
        """Says which tensor of the file stands for a tensor of the program."""
        self._indices[name] = index

    def is_known(self, name: str) -> bool:
        """Returns whether a tensor of the program has its place in the file."""
        return name in self._indices

    def codes(
        self, name: str, shape: Sequence[int], like: Tensor, data: Array | None = None
    ) -> int:
        """Adds a tensor that the program lacks, of the type and grid of ``like``."""
        return self.file.add_tensor(name, shape, like.dtype.numpy, grid_of(like), data)

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
        if not bounds:
            return output, lambda: None
        y = self.tensor(name)
        steps = [self.codes(f"{name}:unbounded", y.shape, y) for _ in bounds]

        def clamp() -> None:
            for (operator, bound), source, target in zip(
                bounds, steps, [*steps[1:], output], strict=True
            ):
                limit = self.codes(f"{name}:bound", (1,), y, np.array([bound], np.int8))
                self.add(operator, [source, limit], target, schema.MaximumMinimumOptionsT())

        return steps[0], clamp


def grid_of(tensor: Tensor) -> Grid | None:
    """Returns the grid of a tensor's codes, None of float32."""
    if tensor.dtype is DType.FLOAT32:
        return None
    return Grid(np.array([tensor.scale], np.float32), tensor.zero_point)


def refuse(op: Op, reason: str) -> NoReturn:
    """Raises the error of an operator that the TFLite form cannot hold.

    Raises:
        ModelError: Always; names the node, the operator, the reason and the forms that take it.
    """
    raise ModelError(
        f"node {op.name!r} ({op.kind}): {reason}, so the TFLite form cannot hold it. "
        "The native form can, and so can the ONNX form: deploy it with format native or onnx."
    )
