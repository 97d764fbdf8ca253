"""Prints, as JSON, the layers of a file's compiled graph in OpenVINO: a program, since OpenVINO may take it down.

    python -m edgekit.converters.fusion.openvino_layers FILE

Exit codes: 0 printed; 1 OpenVINO cannot compile the file, the last line of the error stream says why; 3 it is not
installed.
"""

from __future__ import annotations

import json
import sys
from typing import Any

NOT_INSTALLED = 3
# Layers that hold values and do nothing.
_STILL = frozenset({"Const", "Input", "Output"})


def list_layers(path: str) -> dict[str, Any]:
    """Returns the runtime's version and, for each layer, its kind, its precision and the nodes that it executes."""
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    layers = [
        {
            "kind": _read(layer, "layerType"),
            "precision": _read(layer, "runtimePrecision"),
            "nodes": _read(layer, "originalLayersNames").split(","),
        }
        for layer in compiled.get_runtime_model().get_ordered_ops()
    ]
    return {
        "version": str(openvino.__version__).partition("-")[0],
        "layers": [layer for layer in layers if layer["kind"] not in _STILL],
    }


def _read(layer: Any, key: str) -> str:
    value = layer.get_rt_info()[key]
    return str(value.astype(str) if hasattr(value, "astype") else value)


def main() -> int:
    """Prints the layers of the file that the command line names."""
    try:
        print(json.dumps(list_layers(sys.argv[1])))
    except ImportError:
        return NOT_INSTALLED
    except RuntimeError as error:
        print(str(error).replace("\n", " "), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
