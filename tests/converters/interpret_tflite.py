"""Runs TFLite files in the tests, with XNNPACK or with TensorFlow Lite's plain kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType


def open_bytes(data: bytes, *, reference: bool = False) -> Any:
    resolver = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
    interpreter = Interpreter(
        model_content=data, num_threads=1, experimental_op_resolver_type=resolver
    )
    interpreter.allocate_tensors()
    return interpreter


def run_bytes(data: bytes, inputs: list[np.ndarray], *, reference: bool = False) -> np.ndarray:
    """Returns the only output."""
    interpreter = open_bytes(data, reference=reference)
    for info, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(info["index"], array)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
