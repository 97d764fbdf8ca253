"""Several sizes of a network's inputs in one deployment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.calibrate import Calibration, calibrate
from edgekit.converters.fix_shapes import Shapes, fix_shapes
from edgekit.converters.read_onnx import get_source_digest, set_source_digest
from edgekit.converters.size_names import describe_shapes
from edgekit.data import Sample, Samples
from edgekit.progress import Progress
from edgekit.targets.errors import CalibrationError, EdgekitError

# What `deploy` takes: one size, or several.
Sizes = Shapes | Sequence[Shapes]


def list_sizes(shapes: Sizes | None) -> tuple[Shapes, ...]:
    """Returns the sizes that were asked for, at least one, which may say nothing.

    Raises:
        EdgekitError: They are no shapes by the names of inputs, or two are the same.
    """
    if shapes is None or isinstance(shapes, Mapping):
        return (shapes or {},)
    if not isinstance(shapes, (list, tuple)):
        raise EdgekitError(f"shapes must be a dict by the names of inputs, not {shapes!r}")
    if not shapes or not all(isinstance(size, Mapping) for size in shapes):
        raise EdgekitError(
            f"shapes must be a dict by the names of inputs, not {shapes!r}; or a list of them, one for each size"
        )
    sizes = tuple(shapes)
    seen: list[Mapping[str, tuple[int | None, ...]]] = []
    for size in sizes:
        plain = {name: tuple(shape) for name, shape in size.items()}
        if plain in seen:
            raise EdgekitError(f"the size {describe_shapes(size)} is given twice")
        seen.append(plain)
    return sizes


def bind_sizes(graph: ir.Model, sizes: Sequence[Shapes]) -> list[ir.Model]:
    """Returns ``graph`` bound to each of ``sizes``; it stays as it is.

    Raises:
        ModelError: An input cannot have such a shape.
    """
    graphs = []
    for size in sizes:
        bound = graph.clone()
        set_source_digest(bound, get_source_digest(graph))
        fix_shapes(bound, size)
        graphs.append(bound)
    return graphs


def calibrate_sizes(
    graphs: Sequence[ir.Model],
    samples: Samples,
    progress: Progress,
    checkpoint: str | Path | None,
) -> Calibration:
    """Returns what the samples of all sizes say of the network; a size without samples says nothing.

    Args:
        graphs: The network at each size, simplified.
        samples: Each of the shapes of one of them.
        progress: Is told of each sample.
        checkpoint: A file that calibration continues from and saves to; each size further than the first has its own
            beside it, with the size's number in its name.

    Raises:
        CalibrationError: A sample is of no size, or there is none of the first.
    """
    if len(graphs) == 1:
        return calibrate(
            graphs[0],
            samples,
            progress=lambda count, total: progress("calibrating", count, total),
            checkpoint=checkpoint,
        )
    places = sort_samples(graphs, samples)
    if not places[0]:
        raise CalibrationError(
            f"no calibration sample is of the first size, {_describe(graphs[0])}: it is the one that is measured, so "
            "give some, or put a size first that has some"
        )
    whole: Calibration | None = None
    done = 0
    for number, (graph, own) in enumerate(zip(graphs, places, strict=True)):
        if not own:
            continue
        file = None if checkpoint is None else Path(checkpoint)
        if file is not None and number:
            file = file.with_name(f"{file.stem}-{number}{file.suffix}")
        before = done
        learned = calibrate(
            graph,
            _Chosen(samples, own),
            progress=lambda count, _, before=before: progress(  # type: ignore[misc]
                "calibrating", before + count, len(samples)
            ),
            checkpoint=file,
        )
        done += len(own)
        if whole is None:
            whole = learned
        else:
            whole.merge(learned)
    assert whole is not None
    return whole


def sort_samples(graphs: Sequence[ir.Model], samples: Samples) -> list[list[int]]:
    """Returns the indices of the samples of each size.

    Raises:
        CalibrationError: A sample is of no size.
    """
    places: list[list[int]] = [[] for _ in graphs]
    for index, sample in enumerate(samples):
        own = next((k for k, graph in enumerate(graphs) if is_of(graph, sample)), None)
        if own is None:
            given = describe_shapes({name: array.shape for name, array in sample.items()})
            there = "; ".join(map(_describe, graphs))
            raise CalibrationError(
                f"calibration sample {index} is of no size: {given}; there are {there}"
            )
        places[own].append(index)
    return places


def is_of(graph: ir.Model, sample: Sample) -> bool:
    """Returns whether the inputs of ``graph`` take ``sample``."""
    return all(
        value.shape is None
        or str(value.name) not in sample
        or (
            value.shape.rank() == sample[str(value.name)].ndim
            and all(
                not isinstance(dim, int) or dim == size
                for dim, size in zip(value.shape, sample[str(value.name)].shape, strict=True)
            )
        )
        for value in graph.graph.inputs
    )


def make_sample(samples: Samples, wanted: Mapping[str, Sequence[int]]) -> Sample:
    """Returns a sample of the shapes ``wanted``: one of ``samples`` or several, or what the first one repeats or cuts.

    Args:
        samples: At least one.
        wanted: By input.
    """
    count = max((shape[0] for shape in wanted.values() if shape), default=1)
    chosen: list[Sample] = []
    for sample in samples:
        if all(
            sample[name].shape[1:] == tuple(shape[1:]) and sample[name].ndim == len(shape)
            for name, shape in wanted.items()
        ):
            chosen.append(sample)
        if sum(_count_rows(sample) for sample in chosen) >= count:
            break
    chosen = chosen or [samples[0]]
    made: dict[str, npt.NDArray[np.generic]] = {}
    for name, shape in wanted.items():
        arrays = [sample[name] for sample in chosen]
        whole = np.concatenate(arrays) if shape else arrays[0]
        for axis, size in enumerate(shape):
            whole = np.take(whole, np.arange(size) % whole.shape[axis], axis=axis)
        made[name] = np.ascontiguousarray(whole)
    return made


def _count_rows(sample: Sample) -> int:
    return min((len(array) for array in sample.values() if array.ndim), default=1)


class _Chosen(Sequence[Sample]):
    """Some of the samples, read when they are asked for."""

    def __init__(self, samples: Samples, indices: Sequence[int]) -> None:
        self._samples = samples
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        return self._samples[self._indices[index]]

    def __iter__(self) -> Iterator[Sample]:
        return (self._samples[index] for index in self._indices)


def _describe(graph: ir.Model) -> str:
    return describe_shapes(
        {
            str(value.name): [dim if isinstance(dim, int) else None for dim in value.shape or ()]
            for value in graph.graph.inputs
        }
    )
