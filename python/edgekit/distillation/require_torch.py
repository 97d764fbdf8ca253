"""Says how to get PyTorch where it is missing."""

from __future__ import annotations

from importlib.util import find_spec

from edgekit.targets.errors import ToolError


def require_torch() -> None:
    """Checks that PyTorch can be imported, without importing it.

    Raises:
        ToolError: It cannot.
    """
    try:
        found = find_spec("torch")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ToolError('distillation trains with PyTorch: pip install "edgekit[torch]"')
