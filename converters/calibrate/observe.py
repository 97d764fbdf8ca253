"""Runs the float model over samples and sketches every float tensor: one pass, memory flat in the samples."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from edgekit.converters.calibrate.calibration import Calibration
from edgekit.converters.calibrate.channels import ChannelRange
from edgekit.converters.calibrate.moments import ChannelMoments
from edgekit.converters.calibrate.sketch import TensorSketch
from edgekit.converters.full_disk import name_full_disk
from edgekit.converters.quantizable import RECURRENT
from edgekit.converters.read_onnx import get_source_digest
from edgekit.converters.recover.find_scaling import find_scaling
from edgekit.targets.errors import CalibrationError, ModelError

Sample = Mapping[str, npt.NDArray[np.generic]]
Progress = Callable[[int, int | None], None]


def calibrate(
    model: ir.Model,
    samples: Iterable[Sample],
    *,
    progress: Progress | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 64,
) -> Calibration:
    """Runs ``model`` in ONNX Runtime over ``samples`` and sketches all float32 inputs and intermediate results.

    The result depends on which samples were given, not on their order. Each is run as it comes, and
    forgotten: memory does not grow with their number.

    Args:
        model: A float model, simplified as it will be quantized.
        samples: Dicts from input name to an array with that input's type and shape.
        progress: Called after each sample with the number done and, where it is known, of all.
        checkpoint: File to continue from, if it exists, and to save to now and then. A continued run skips as many
            samples as the file has seen, so ``samples`` must come in the same order again.
        checkpoint_every: Samples between two saves.

    Raises:
        CalibrationError: There is no sample; one has wrong names, types or shapes, or holds NaN or infinity, or
            leads to them in the model (the message says where); or the checkpoint belongs to another model.
        ModelError: ONNX Runtime cannot run the model.
        EdgekitError: The disk is full where temporary files or the checkpoint are written.
    """
    observed = observed_values(model)
    calibration = Calibration(
        get_source_digest(model),
        {str(value.name): TensorSketch() for value in observed},
        {str(value.name): moments for value, moments in _layer_inputs(model)},
        channels=_scalable(model, observed),
    )
    file = None if checkpoint is None else Path(checkpoint)
    if file is not None and file.exists():
        saved = Calibration.load(file)
        try:
            calibration.merge(saved)
        except CalibrationError as error:
            raise CalibrationError(f"{file}: {error}") from error
    total = len(samples) if isinstance(samples, Sized) else None
    session = make_session(model, observed)
    outputs = [value for value in observed if not value.is_graph_input()]
    names = [str(value.name) for value in outputs]
    producers = {str(value.name): value.producer() for value in outputs}
    skipped = 0 if file is None else calibration.samples
    for index, sample, results in run_ahead(model, session, names, samples, skipped):
        for name, array in itertools.chain(sample.items(), zip(names, results, strict=True)):
            sketch = calibration.sketches.get(name)
            if sketch is None:
                continue
            # Only float32 values have a sketch.
            values = cast("npt.NDArray[np.float32]", array)
            if not sketch.add(values):
                raise CalibrationError(
                    f"{_describe(producers.get(name), name)} has NaN or infinite values at calibration sample "
                    f"{index}, in the float model already: leave out that sample, or mend the model there"
                )
            if name in calibration.moments:
                calibration.moments[name].add(values)
            if name in calibration.channels:
                calibration.channels[name].add(values)
        calibration.samples = index + 1
        if file is not None and calibration.samples % checkpoint_every == 0:
            calibration.save(file)
        if progress is not None:
            progress(calibration.samples, total)
    if calibration.samples == 0:
        raise CalibrationError(
            "there are no calibration samples; give at least one, better a hundred"
        )
    if file is not None:
        calibration.save(file)
    return calibration


def observed_values(model: ir.Model) -> list[ir.Value]:
    """Returns the float32 values of the main graph that depend on its inputs, inputs first, in graph order."""
    results = [value for node in model.graph for value in node.outputs]
    return [
        value
        for value in (*model.graph.inputs, *results)
        if value.name
        and isinstance(value.type, ir.TensorType)
        and value.dtype == ir.DataType.FLOAT
        and not value.is_initializer()
    ]


def _describe(producer: ir.Node | None, name: str) -> str:
    """Returns how errors name a value; an input of the model has no producer."""
    if producer is None:
        return f"input '{name}'"
    return f"activation '{name}' of node '{producer.name or name}' ({producer.op_type})"


def _layer_inputs(model: ir.Model) -> Iterator[tuple[ir.Value, ChannelMoments]]:
    """Yields the float inputs of layers with constant weights, and empty moments for their channels."""
    # What a recurrent node reads beside other layers is known as those need it.
    for node in sorted(model.graph, key=lambda node: node.op_type not in RECURRENT):
        source = node.inputs[0] if node.inputs else None
        if (
            node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul", *RECURRENT)
            or source is None
            or node.inputs[1] is None
        ):
            continue
        weight = node.inputs[1].shape
        if (
            source.dtype != ir.DataType.FLOAT
            or node.inputs[1].const_value is None
            or weight is None
        ):
            continue
        if node.op_type == "Conv":
            group = node.attributes.get("group")
            channels = weight.numpy()[1] * (1 if group is None else group.as_int())
            if channels > 0:  # Otherwise ONNX Runtime says what is wrong.
                yield source, ChannelMoments(1, channels)
        elif node.op_type == "ConvTranspose":
            yield source, ChannelMoments(1, weight.numpy()[0])
        elif node.op_type in RECURRENT:
            if weight.rank() == 3:
                yield source, ChannelMoments(-1, weight.numpy()[2])
        elif weight.rank() == 2:
            transposed = node.attributes.get("transB")
            inner = 1 if transposed is not None and transposed.as_int() else 0
            yield source, ChannelMoments(-1, weight.numpy()[inner])


def _scalable(model: ir.Model, values: list[ir.Value]) -> dict[str, ChannelRange]:
    """Returns empty ranges for the channels of values that may be scaled one by one."""
    scaling = find_scaling(model)
    axes = {value: scaling.axis(value) for value in values}
    return {
        str(value.name): ChannelRange(axis, scaling.channels(value).size)
        for value, axis in axes.items()
        if axis is not None
    }


def make_session(model: ir.Model, values: list[ir.Value]) -> ort.InferenceSession:
    """Returns a session of ``model`` that also gives ``values``, results of its nodes.

    Raises:
        ModelError: ONNX Runtime cannot run it.
        EdgekitError: The disk is full where temporary files are written.
    """
    observed = model.clone()
    by_name = {value.name: value for node in observed.graph for value in node.outputs}
    existing = {value.name for value in observed.graph.outputs}
    observed.graph.outputs.extend(
        by_name[value.name]
        for value in values
        if not value.is_graph_input() and value.name not in existing
    )
    options = ort.SessionOptions()
    options.log_severity_level = 4  # What fails is raised, and told once.
    # By way of files, since a serialized message is bounded by 2 GB and cannot say where mapped weights are.
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "observed.onnx"
        with name_full_disk(
            folder, "calibration keeps a copy of the model there; free some space, or set TMPDIR"
        ):
            ir.save(observed, path, external_data="weights.bin")
        try:
            return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # ONNX Runtime's own exceptions have no public base class below Exception.
            first = str(error).splitlines()[0]
            raise ModelError(f"ONNX Runtime cannot run the float model: {first}") from error


def run_ahead(
    model: ir.Model,
    session: ort.InferenceSession,
    names: list[str],
    samples: Iterable[Sample],
    skipped: int,
) -> Iterator[tuple[int, Sample, list[npt.NDArray[np.float32]]]]:
    """Yields each sample, its place and what the model made of it, while the one behind it runs in another thread."""
    with ThreadPoolExecutor(1) as runner:
        before: tuple[int, Sample, Future[list[npt.NDArray[np.float32]]]] | None = None
        for index, sample in enumerate(samples):
            if index < skipped:
                continue
            check_sample(model, sample, index)
            future = runner.submit(_run, session, names, sample)
            if before is not None:
                yield before[0], before[1], before[2].result()
            before = index, sample, future
        if before is not None:
            yield before[0], before[1], before[2].result()


def _run(
    session: ort.InferenceSession, names: list[str], sample: Sample
) -> list[npt.NDArray[np.float32]]:
    if not names:
        return []
    try:
        results: list[npt.NDArray[np.float32]] = session.run(names, dict(sample))
    except Exception as error:
        # As in make_session().
        first = str(error).splitlines()[0]
        raise ModelError(f"ONNX Runtime cannot run the float model: {first}") from error
    return results


def check_sample(model: ir.Model, sample: Sample, index: int) -> None:
    """Checks that the sample at a place fits the model.

    Raises:
        CalibrationError: It has other names, types or shapes.
    """
    expected = {str(value.name): value for value in model.graph.inputs}
    if set(sample) != set(expected):
        raise CalibrationError(
            f"calibration sample {index} has inputs {sorted(sample)}, but the model takes {sorted(expected)}"
        )
    for name, value in expected.items():
        array = np.asarray(sample[name])
        dtype = None if value.dtype is None else value.dtype.numpy()
        if dtype is not None and array.dtype != dtype:
            raise CalibrationError(
                f"calibration sample {index}: input '{name}' is {array.dtype}, but the model takes {dtype}"
            )
        if value.shape is None:
            continue
        fits = len(value.shape) == array.ndim and all(
            not isinstance(want, int) or want == have
            for want, have in zip(value.shape, array.shape, strict=True)
        )
        if not fits:
            raise CalibrationError(
                f"calibration sample {index}: input '{name}' has shape {list(array.shape)}, but the model takes "
                f"{value.shape}"
            )
