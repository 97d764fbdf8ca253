"""Finds the classes that read TensorFlow Lite's FlatBuffers schema; they come with the interpreter."""

from __future__ import annotations

from typing import Any

from edgekit.targets.errors import ModelError


def load_schema() -> Any:
    """Returns the module of ai-edge-litert with the schema's classes and enumerations.

    Raises:
        ModelError: The package is not installed.
    """
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise ModelError(
            'reading .tflite files needs ai-edge-litert: pip install "edgekit[tflite]"'
        ) from error
    return schema_py_generated


def name_of(enumeration: Any, number: int) -> str:
    """Returns the name that ``number`` has in an enumeration of the schema, or the number in words."""
    for name, value in vars(enumeration).items():
        if value == number and not name.startswith("_"):
            return str(name)
    return f"number {number}"
