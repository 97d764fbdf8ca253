"""The classes of TFLite's schema, from the package ai-edge-litert."""

from __future__ import annotations

from edgekit.targets.errors import ToolError

try:
    from ai_edge_litert import schema_py_generated as schema
except ImportError as error:
    raise ToolError(
        "the TFLite form needs ai-edge-litert: install it with `pip install 'edgekit[tflite]'`"
    ) from error

__all__ = ["schema"]
