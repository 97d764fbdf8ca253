"""Gathers the Hessians of layers' inputs by running the float model, and keeps them in a file (docs/solver.md)."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit import _native
from edgekit.converters.calibrate import Calibration
from edgekit.converters.calibrate.observe import (
    Progress,
    Sample,
    make_session,
    run_ahead,
)
from edgekit.converters.compensate.hessian_file import (
    FORMAT,
    Entry,
    Hessians,
    file_name,
    write_entry,
    write_header,
    write_whole,
)
from edgekit.converters.compensate.layers import Patches, find_patches
from edgekit.converters.compensate.rounding import count_cores
from edgekit.targets.errors import CalibrationError

# Steps from 0 to the largest magnitude that calibration saw, and where values are cut off.
_STEPS = 1 << 13
_LIMIT = 1 << 15
# Products that one sample may cost a layer; but so many patches are taken in any case.
_PRODUCTS = 1 << 26
_LEAST_PATCHES = 256
MEMORY_LIMIT = 1 << 30

Doubles = npt.NDArray[np.float64]


def gather_hessians(
    model: ir.Model,
    samples: Collection[Sample],
    calibration: Calibration,
    folder: str | os.PathLike[str],
    *,
    names: Collection[str] | None = None,
    memory_limit: int = MEMORY_LIMIT,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Hessians:
    """Runs ``model`` in ONNX Runtime over ``samples`` and keeps X^T X of each layer's input in a file of ``folder``.

    Inputs count in steps of a power of two, 4,096 to 8,192 of them from 0 to the largest magnitude that calibration
    saw, so that every sum is exact: neither the order of samples nor the machine's instruction set changes it.
    Of large images some patches are taken, drawn by the sample's own content. The model runs once for as many layers as
    ``memory_limit`` holds. A file that was gathered from the same model and samples is used again.

    Args:
        model: A float model, simplified as it will be quantized.
        samples: As for `calibrate`; gone through once for each group of layers.
        calibration: Made from this model.
        folder: Where the file is kept, under a name that says what it was made of.
        names: Nodes to gather for; None: all layers.
        memory_limit: Bytes that Hessians may take while they are gathered. A layer that needs more is left out.
        seed: Of the drawing of patches.
        threads: Threads to use; None: one for each core.
        progress: Called after each sample with the number done and of all, passes counted; what it raises ends the
            work and leaves no file.

    Raises:
        CalibrationError: There is no sample, one does not fit the model, or the calibration is another model's.
        ModelError: ONNX Runtime cannot run the model.
        EdgekitError: The disk is full.
    """
    if not samples:
        raise CalibrationError(
            "there are no calibration samples; give at least one, better a hundred"
        )
    readers: dict[Patches, list[str]] = {}
    left_out: dict[str, str] = {}
    for node in model.graph:
        found = find_patches(node)
        if found is None or not node.name or (names is not None and node.name not in names):
            continue
        if found.bytes > memory_limit:
            left_out[node.name] = (
                f"its Hessian takes {found.bytes / 1e6:.0f} MB, and {memory_limit / 1e6:.0f} are allowed"
            )
        else:
            readers.setdefault(found, []).append(node.name)
    steps = {patches: _step(calibration, patches.source) for patches in readers}
    contents = [_digest_sample(sample) for sample in samples]
    moments = {patches: _read_moments(calibration, patches) for patches in readers}
    digest = _digest_all(model, contents, steps, left_out, list(moments.values()), seed)
    path = file_name(folder, digest)
    if path.exists():
        try:
            return Hessians.load(path)
        except CalibrationError:
            path.unlink()
    gather = _Gathering(model, samples, contents, steps, seed, threads or count_cores())
    passes = _share_out(list(readers), memory_limit)
    layers: dict[str, Entry] = {}
    with write_whole(path) as archive:
        for index, together in enumerate(passes):
            tell = _count_passes(progress, index, len(passes))
            for patches, sums, *counts in gather.run(together, tell):
                entry = Entry(
                    f"{len(layers)}.npy",
                    "" if moments[patches] is None else f"{len(layers)}.moments.npy",
                    patches.groups,
                    patches.depth,
                    steps[patches],
                    *counts,
                )
                write_entry(archive, entry, sums, moments[patches])
                layers.update(dict.fromkeys(readers[patches], entry))
        write_header(archive, digest, left_out, layers)
    return Hessians(path, digest, left_out, layers)


class _Gathering:
    """Passes of the float model over the samples."""

    def __init__(
        self,
        model: ir.Model,
        samples: Collection[Sample],
        contents: Sequence[bytes],
        steps: Mapping[Patches, float],
        seed: int,
        threads: int,
    ) -> None:
        self._model = model
        self._samples = samples
        self._contents = contents
        self._steps = steps
        self._seed = seed
        self._threads = threads

    def run(
        self, together: Sequence[Patches], tell: Progress | None
    ) -> Iterator[tuple[Patches, _native.Hessian, int, int]]:
        """Yields the sums of some layers, and of how many patches in how many images they are."""
        sums = {
            patches: _native.Hessian(patches.groups, patches.depth, threads=self._threads)
            for patches in together
        }
        counts, images = dict.fromkeys(together, 0), dict.fromkeys(together, 0)
        wanted = {patches.source for patches in together}
        values = [
            value
            for value in itertools.chain.from_iterable(node.outputs for node in self._model.graph)
            if value.name in wanted
        ]
        names = [str(value.name) for value in values]
        session = make_session(self._model, values)
        for index, sample, results in run_ahead(self._model, session, names, self._samples, 0):
            known = {**sample, **dict(zip(names, results, strict=True))}
            for patches in together:
                array = np.asarray(known[patches.source], np.float32)
                found = patches.images(array)
                counts[patches] += self._add(sums[patches], patches, found, index)
                images[patches] += len(found)
            if tell is not None:
                tell(index + 1, len(self._samples))
        for patches in together:
            yield patches, sums.pop(patches), counts[patches], images[patches]

    def _add(
        self, sums: _native.Hessian, patches: Patches, images: npt.NDArray[np.float32], index: int
    ) -> int:
        window = patches.window(*images.shape[2:])
        most = max(_LEAST_PATCHES, _PRODUCTS // (patches.groups * patches.depth**2))
        taken = 0
        for place, image in enumerate(images):
            key = hashlib.sha256(
                repr((self._seed, patches, place)).encode() + self._contents[index]
            ).digest()
            positions = draw_positions(window.positions, most, key)
            sums.add(window, image, positions, scale=1 / self._steps[patches], limit=float(_LIMIT))
            taken += len(positions)
        return taken


def count_products(model: ir.Model) -> int:
    """Returns about how many products one sample of the graph's own size costs `gather_hessians`."""
    found = {patches: node for node in model.graph if (patches := find_patches(node)) is not None}
    products = 0
    for patches, node in found.items():
        each = patches.groups * patches.depth**2
        value = node.inputs[0] if patches.transposed else node.outputs[0]
        shape = () if value is None or value.shape is None else tuple(value.shape)
        sizes = [size if isinstance(size, int) else 1 for size in shape]
        positions = math.prod(sizes[2:] if patches.is_image else sizes[:-1])
        products += min(positions * each, max(_PRODUCTS, _LEAST_PATCHES * each))
    return products


def draw_positions(count: int, most: int, key: bytes) -> npt.NDArray[np.uint32]:
    """Returns up to ``most`` of the numbers below ``count``, rising, drawn by ``key`` the same everywhere.

    Each number has a random rank (splitmix64 of it and the key), and the lowest ranks are taken.
    """
    if count <= most:
        return np.arange(count, dtype=np.uint32)
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64(int.from_bytes(key[:8], "little"))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    lowest = np.argsort(z, kind="stable")[:most]
    return np.sort(lowest).astype(np.uint32)


def _step(calibration: Calibration, source: str) -> float:
    sketch = calibration.sketches.get(source)
    if sketch is None:
        raise CalibrationError(
            f"tensor '{source}' was not calibrated: the calibration belongs to another model, or to this one before it "
            "was simplified"
        )
    reach = max(abs(float(sketch.lo)), abs(float(sketch.hi)))
    if not math.isfinite(reach) or reach == 0:
        return 1.0
    return math.ldexp(1.0, math.frexp(reach)[1]) / _STEPS


def _share_out(readers: Sequence[Patches], limit: int) -> list[list[Patches]]:
    """Returns the passes that the model makes: what is gathered in each of them fits into memory."""
    passes: list[list[Patches]] = []
    left = 0
    for patches in readers:
        if patches.bytes > left:
            passes.append([])
            left = limit
        passes[-1].append(patches)
        left -= patches.bytes
    return passes


def _count_passes(progress: Progress | None, index: int, count: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total: progress(
        index * (total or 0) + done, None if total is None else count * total
    )


def _read_moments(calibration: Calibration, patches: Patches) -> Doubles | None:
    """Returns mean and variance of a patch's elements, ``[2, groups, depth]``, or None where they are not known."""
    moments = calibration.moments.get(patches.source)
    taps = patches.kernel[0] * patches.kernel[1]
    channels = patches.groups * patches.depth // taps
    if moments is None or moments.sums.whole.size != channels:
        return None
    both = np.stack([moments.mean(), moments.variance()])
    return np.repeat(both.reshape(2, patches.groups, -1), taps, axis=2)


def _digest_sample(sample: Sample) -> bytes:
    whole = hashlib.sha256()
    for name in sorted(sample):
        array = np.ascontiguousarray(sample[name])
        whole.update(repr((name, array.shape, array.dtype.str)).encode())
        whole.update(array.data if array.dtype.kind != "O" else repr(array.tolist()).encode())
    return whole.digest()


def _digest_all(
    model: ir.Model,
    contents: Sequence[bytes],
    steps: Mapping[Patches, float],
    left_out: Mapping[str, str],
    moments: Sequence[Doubles | None],
    seed: int,
) -> str:
    """Returns the SHA-256 of all that Hessians hang on; the order of samples is none of it."""
    whole = hashlib.sha256(FORMAT.encode())
    for node in model.graph:
        attributes = sorted((a.name, str(a.value)) for a in node.attributes.values())
        inputs = [None if value is None else value.name for value in node.inputs]
        outputs = [value.name for value in node.outputs]
        whole.update(repr((node.domain, node.op_type, attributes, inputs, outputs)).encode())
    for name in sorted(model.graph.initializers):
        array = model.graph.initializers[name].const_value
        if array is not None:
            whole.update(repr((name, array.shape, array.dtype)).encode())
            names = array.dtype == ir.DataType.STRING
            whole.update(repr(array.numpy().tolist()).encode() if names else array.tobytes())
    for content in sorted(contents):
        whole.update(content)
    for known in moments:
        whole.update(b"" if known is None else known.tobytes())
    whole.update(
        repr((seed, sorted(left_out), sorted((repr(p), s) for p, s in steps.items()))).encode()
    )
    return whole.hexdigest()
