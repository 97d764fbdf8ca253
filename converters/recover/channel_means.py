"""Means of each channel of values, in a float network and in its quantized one, both run by ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime

from edgekit.converters.passes.fuse_clamps import Clamp
from edgekit.converters.program import codes_name
from edgekit.converters.quantization import ActivationQuantization, get_quantization
from edgekit.converters.write_onnx import get_style, write_onnx
from edgekit.targets.errors import ModelError

Sample = Mapping[str, npt.NDArray[np.generic]]
Answer = dict[str, npt.NDArray[np.generic]]
Floats = npt.NDArray[np.float64]
_STYLE = "ort-x86"


def run_float(model: ir.Model, samples: Sequence[Sample]) -> list[Answer]:
    """Returns what a float graph answers to each sample.

    Raises:
        ModelError: ONNX Runtime cannot run it.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "model.onnx"
        ir.save(model, path, external_data="weights.bin")
        return _run_all(_open(path), None, samples)


def run_quantized(model: ir.Model, samples: Sequence[Sample]) -> list[Answer]:
    """Returns what a quantized graph answers to each sample, on codes.

    Raises:
        ModelError: It cannot be written as ONNX, or ONNX Runtime cannot run it.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = write_onnx(model, Path(folder) / "model.onnx", style=_STYLE)
        return _run_all(_open(path), None, samples)


def float_means(
    model: ir.Model, axes: Mapping[str, int], clamps: Mapping[str, Clamp], samples: Sequence[Sample]
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Returns the mean of each channel of values of a float graph, and the share of it that no clamp holds.

    Args:
        model: The graph.
        axes: By value, the dimension of its channels.
        clamps: By value, its bounds.
        samples: What it is run on.

    Raises:
        ModelError: ONNX Runtime cannot run it.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "model.onnx"
        ir.save(model, path, external_data="weights.bin")
        _expose(path, [*axes])
        session = _open(path)
    sums: dict[str, Floats] = {}
    inside: dict[str, Floats] = {}
    for sample in samples:
        for name, array in _run(session, [*axes], sample).items():
            real, clamp = array.astype(np.float64), clamps[name]
            free = ((real > clamp.lo) & (real < clamp.hi)).astype(np.float64)
            _add(sums, name, real, axes[name])
            _add(inside, name, free, axes[name])
    means, shares = (
        {name: total / len(samples) for name, total in found.items()} for found in (sums, inside)
    )
    return means, shares


def quantized_means(
    model: ir.Model, axes: Mapping[str, int], samples: Sequence[Sample]
) -> dict[str, Floats]:
    """Returns the mean of each channel of values of a quantized graph, which all have grids.

    Args:
        model: The graph.
        axes: By value, the dimension of its channels.
        samples: What it is run on.

    Raises:
        ModelError: It cannot be written as ONNX, or ONNX Runtime cannot run it.
    """
    values = {str(value.name): value for node in model.graph for value in node.outputs}
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = write_onnx(model, Path(folder) / "model.onnx", style=_STYLE)
        _expose(path, [codes_name(name) for name in axes])
        session = _open(path)
    shift = 128 if get_style(_STYLE).codes == "uint8" else 0
    sums: dict[str, Floats] = {}
    for sample in samples:
        found = _run(session, [codes_name(name) for name in axes], sample)
        for name, axis in axes.items():
            record = get_quantization(values[name])
            assert isinstance(record, ActivationQuantization)
            codes = found[codes_name(name)].astype(np.float64) - shift - record.zero_point
            _add(sums, name, codes * float(record.scale), axis)
    return {name: total / len(samples) for name, total in sums.items()}


def _add(sums: dict[str, Floats], name: str, array: Floats, axis: int) -> None:
    others = tuple(a for a in range(array.ndim) if a != axis % array.ndim)
    mean = array.mean(axis=others)
    sums[name] = sums[name] + mean if name in sums else mean


def _expose(path: Path, names: Sequence[str]) -> None:
    """Makes values of a file outputs, beside those that it has."""
    proto = onnx.load(path, load_external_data=False)
    there = {output.name for output in proto.graph.output}
    for name in names:
        if name not in there:
            proto.graph.output.append(onnx.ValueInfoProto(name=name))
    onnx.save(proto, path)


def _open(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own classes share no public base.
        raise ModelError(f"the network can't be run to recover accuracy: {error}") from error


def _run_all(
    session: onnxruntime.InferenceSession, names: Sequence[str] | None, samples: Sequence[Sample]
) -> list[Answer]:
    wanted = names or [info.name for info in session.get_outputs()]
    return [_run(session, wanted, sample) for sample in samples]


def _run(session: onnxruntime.InferenceSession, names: Sequence[str], sample: Sample) -> Answer:
    try:
        values = session.run([*names], dict(sample))
    except Exception as error:  # As in _open().
        raise ModelError(f"the network can't be run to recover accuracy: {error}") from error
    return dict(zip(names, values, strict=True))
