"""Gives numbers to the open dimensions of a model's inputs, as a form that is laid out in advance needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from edgekit.converters.read_onnx import bind_dimensions
from edgekit.targets.errors import ModelError

# All dimensions by the input's name; None leaves one as it is.
Shapes = Mapping[str, Sequence[int | None]]


def fix_shapes(model: ir.Model, shapes: Shapes) -> None:
    """Gives inputs the ``shapes``, in place, and infers those of all values anew.

    A dimension that several inputs share by name becomes the same number in all of them.

    Args:
        model: In canonical form.
        shapes: Inputs that are not named keep theirs.

    Raises:
        ModelError: There is no such input, or it cannot have such a shape.
    """
    inputs = {str(value.name): value for value in model.graph.inputs}
    bindings: dict[str, int] = {}
    for name, wanted in shapes.items():
        if name not in inputs:
            raise ModelError(
                f"there is no input '{name}' to give a shape to: the model has {', '.join(sorted(inputs))}"
            )
        _bind(inputs[name], wanted, bindings)
    for name, wanted in shapes.items():
        value = inputs[name]
        dims = list(wanted) if value.shape is None else list(value.shape)
        value.shape = ir.Shape(
            dim if size is None else size for dim, size in zip(dims, wanted, strict=True)
        )
    bind_dimensions(model, bindings)


def open_inputs(model: ir.Model) -> list[ir.Value]:
    """Returns the inputs with an open dimension besides the first."""
    return [
        value
        for value in model.graph.inputs
        if value.shape is not None and not all(isinstance(dim, int) for dim in value.shape[1:])
    ]


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Reads ``NAME=1,3,640,640``.

    Raises:
        ModelError: The text is something else.

    >>> parse_shape("x=1,3,640,640")
    ('x', (1, 3, 640, 640))
    """
    name, separator, numbers = text.rpartition("=")
    parts = [part.strip() for part in numbers.split(",")]
    if not separator or not name or not all(part.isdecimal() for part in parts):
        raise ModelError(f"'{text}' is no shape: write NAME=1,3,640,640")
    return name, tuple(int(part) for part in parts)


def parse_sizes(items: Sequence[str]) -> tuple[Shapes, ...]:
    """Reads shapes of inputs, each given once for all sizes or as often as there are sizes.

    Raises:
        ModelError: One is no shape, or inputs have different numbers of shapes.

    >>> parse_sizes(["x=1,8", "x=1,16", "y=1,2"])
    ({'x': (1, 8), 'y': (1, 2)}, {'x': (1, 16), 'y': (1, 2)})
    """
    given: dict[str, list[tuple[int, ...]]] = {}
    for item in items:
        name, shape = parse_shape(item)
        given.setdefault(name, []).append(shape)
    count = max(map(len, given.values()), default=1)
    for name, shapes in given.items():
        if len(shapes) not in (1, count):
            raise ModelError(
                f"'{name}' has {len(shapes)} shapes, another input {count}: give each one, or one for each size"
            )
    return tuple(
        {name: shapes[index % len(shapes)] for name, shapes in given.items()}
        for index in range(count)
    )


def _bind(value: ir.Value, wanted: Sequence[int | None], bindings: dict[str, int]) -> None:
    """Checks that ``value`` can have the shape ``wanted``, and notes what its named dimensions become."""
    if any(size is not None and size < 1 for size in wanted):
        raise ModelError(f"input '{value.name}' cannot have the empty shape {list(wanted)}")
    if value.shape is None:
        return
    if value.shape.rank() != len(wanted):
        raise ModelError(
            f"input '{value.name}' has {value.shape.rank()} dimensions, not {len(wanted)} as in {list(wanted)}"
        )
    for axis, (dim, size) in enumerate(zip(value.shape, wanted, strict=True)):
        if size is None:
            continue
        if isinstance(dim, int):
            if dim != size:
                raise ModelError(
                    f"dimension {axis} of input '{value.name}' is {dim} in the model and cannot be {size}"
                )
        elif dim.value is not None and bindings.setdefault(dim.value, size) != size:
            raise ModelError(
                f"dimension '{dim.value}' cannot be both {bindings[dim.value]} and {size}: give input "
                f"'{value.name}' another shape"
            )
