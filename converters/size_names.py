"""How sizes of a network's inputs are written: in errors, and in the metadata of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# In the metadata of an ONNX file: the sizes that it was made for, as JSON.
SIZES_KEY = "edgekit.sizes"


def describe_shapes(shapes: Mapping[str, Sequence[int | None]]) -> str:
    """Returns a size in words.

    >>> describe_shapes({"x": (1, 3, None, 160)})
    'x [1, 3, ?, 160]'
    """
    return ", ".join(
        f"{name} [{', '.join('?' if dim is None else str(dim) for dim in shape)}]"
        for name, shape in shapes.items()
    )
