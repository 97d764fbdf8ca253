"""Small plans to serve, whose answers are easily told."""

from pathlib import Path

import numpy as np
import onnx

from edgekit import _native
from edgekit.converters.lower import lower
from edgekit.converters.quantization import keep_float
from edgekit.converters.read_onnx import read_onnx
from edgekit.converters.write_plan import write_plan
from edgekit.states import describe_states

SUMS = (
    '<ir_version: 10, opset_import: ["": 21]> sums (float[1, 3] x, float[1, 3] state) => '
    "(float[1, 3] twice, float[1, 3] next) { next = Add (x, state) twice = Add (next, next) }"
)
ROWS = (
    '<ir_version: 10, opset_import: ["": 21]> rows (float[4, 5] x) => (float[4, 5] y) '
    "{ s = Softmax <axis = -1> (x) y = Add (s, x) }"
)
# What the plan of SUMS takes.
X = np.float32([[1, 2, 3]])


def write_float_plan(text: str, path: Path, states: dict[str, str] | None = None) -> Path:
    """Writes the plan of a network in onnx's text form, whose layers are all float32."""
    source = path.with_suffix(".onnx")
    onnx.save(onnx.parser.parse_model(text), source)
    graph = read_onnx(source)
    for node in graph.graph:
        keep_float(node)
    program = lower(graph)
    metadata = describe_states(program, states or {})
    isa = _native.best_isa()
    write_plan(program, path, isa=isa, target="host", source_digest="00", metadata=metadata)
    return path
