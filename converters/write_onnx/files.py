"""The files of an ONNX form: one, or two where weights pass protobuf's limit."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime

from edgekit.converters.onnx_file import data_path
from edgekit.targets.errors import ModelError

_MAX_PROTOBUF_BYTES = 2**31 - 1


def save(proto: onnx.ModelProto, path: Path) -> None:
    """Writes ``proto`` and checks that the file is valid and that ONNX Runtime loads it.

    Equal models give equal bytes.

    Raises:
        ModelError: It is not, or ONNX Runtime does not.
    """
    large = proto.ByteSize() > _MAX_PROTOBUF_BYTES
    if large:
        data = data_path(path)
        data.unlink(missing_ok=True)
        onnx.save_model(proto, path, save_as_external_data=True, location=data.name)
    else:
        path.write_bytes(proto.SerializeToString(deterministic=True))
    try:
        onnx.checker.check_model(str(path) if large else proto, full_check=True)
        onnxruntime.InferenceSession(str(path), _unoptimized(), providers=["CPUExecutionProvider"])
    except Exception as error:  # the checker and ONNX Runtime raise unrelated classes
        raise ModelError(f"the ONNX form of {path.name} is not valid: {error}") from error


def _unoptimized() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return options
