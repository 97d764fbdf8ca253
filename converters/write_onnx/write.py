"""`write_onnx`: from a quantized graph to a file that an engine takes whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir

from edgekit.converters.compensate import Hessians
from edgekit.converters.size_names import SIZES_KEY
from edgekit.converters.write_onnx.files import save
from edgekit.converters.write_onnx.int4 import write_blockwise
from edgekit.converters.write_onnx.operators import write_operators
from edgekit.converters.write_onnx.opset import lower_opset
from edgekit.converters.write_onnx.plain import write_float
from edgekit.converters.write_onnx.qdq import write_qdq
from edgekit.converters.write_onnx.reader_pairs import write_reader_pairs
from edgekit.converters.write_onnx.styles import Style, get_style
from edgekit.targets.errors import ModelError

_FIRST_PER_CHANNEL_OPSET = 13
_INT4 = "ort-int4"
_WRITERS: dict[str, Callable[[ir.Model, Style], onnx.ModelProto]] = {
    "ort-arm-qlinear": write_operators,
    "ort-x86-qlinear": write_operators,
    "tensorrt": write_reader_pairs,
    "tensorrt-float": write_float,
}


def write_onnx(
    model: ir.Model,
    path: str | Path,
    *,
    style: str | Style,
    most_opset: int | None = None,
    hessians: Hessians | None = None,
) -> Path:
    """Writes ``model`` for an engine; the model stays as it is, and gives the same bytes each time.

    Args:
        model: Float operators whose values carry the records of ``edgekit.converters.quantization``.
        path: The file; where a file would pass protobuf's limit, initializers go to ``data_path(path)``.
        style: What the engine wants, a name of ``STYLES``.
        most_opset: The newest opset that the engine reads; the file is brought below it where its operators let it.
        hessians: Of the inputs of layers whose weights the style itself puts into int4.

    Returns:
        The path of the file.

    Raises:
        EdgekitError: There is no such style.
        ModelError: The result is not valid ONNX, ONNX Runtime cannot load it, a grid is not as the style needs it, or
            an operator is newer than ``most_opset``.
    """
    path, style = Path(path), get_style(style)
    opset = model.graph.opset_imports.get("", 0)
    if opset < _FIRST_PER_CHANNEL_OPSET:
        raise ModelError(
            f"the model has opset {opset}; scales for each channel need opset "
            f"{_FIRST_PER_CHANNEL_OPSET} or newer: export it so, or convert it with onnx.version_converter"
        )
    if style.name == _INT4:
        proto = write_blockwise(model, style, hessians)
    else:
        proto = _WRITERS.get(style.name, write_qdq)(model, style)
    if SIZES_KEY in model.metadata_props:
        proto.metadata_props.add(key=SIZES_KEY, value=model.metadata_props[SIZES_KEY])
    if most_opset is not None:
        lower_opset(proto, most_opset)
    save(proto, path)
    return path
