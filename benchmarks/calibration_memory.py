"""Measures how much memory calibration takes as its samples become more: ours, ONNX Runtime's and NNCF's.

Each calibrates DS-CNN on Fashion-MNIST's training images, in a process of its own. What is printed is the peak of
resident memory above what the process held when everything was imported and the samples were mapped. ONNX Runtime's
histograms keep all activations of all samples, as its page uses them, so that they get a tenth of the samples at most.

    python benchmarks/calibration_memory.py --samples 10 10000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from edgekit.data import Sample
from edgekit.timing import describe_machine
from find_data import find_data, read_idx
from networks import NETWORKS, normalize_clothes
from quantizers.onnxruntime_static import make_reader

DS_CNN = next(network for network in NETWORKS if network.name == "DS-CNN")
# Bytes of activations of one sample, kept by histograms, are some 0.6 MB: 10,000 would be 6 GB.
_MOST_KEPT = 1000


class Clothes:
    """Training images as samples, made when they are asked for."""

    def __init__(self, count: int) -> None:
        folder = find_data("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist")
        self._pixels = read_idx(folder / "train-images-idx3-ubyte.gz")
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Sample]:
        for index in range(self._count):
            yield self[index]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        return {"image": normalize_clothes(self._pixels[index : index + 1])[0]}


def calibrate_ours(model: Path, samples: Clothes) -> Callable[[], object]:
    from edgekit.converters.calibrate import calibrate
    from edgekit.converters.passes import simplify
    from edgekit.converters.read_onnx import read_onnx

    graph = read_onnx(model)
    simplify(graph)
    return lambda: calibrate(graph, samples)


def calibrate_onnxruntime(
    model: Path, samples: Clothes, method: str = "MinMax"
) -> Callable[[], object]:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, quantize_static

    target = str(model.with_suffix(".quantized.onnx"))
    return lambda: quantize_static(
        str(model),
        target,
        make_reader(samples),
        quant_format=QuantFormat.QDQ,
        calibrate_method=CalibrationMethod[method],
    )


def calibrate_entropy(model: Path, samples: Clothes) -> Callable[[], object]:
    return calibrate_onnxruntime(model, samples, "Entropy")


def calibrate_nncf(model: Path, samples: Clothes) -> Callable[[], object]:
    import nncf
    import onnx

    proto, count = onnx.load(model), len(samples)
    return lambda: nncf.quantize(proto, nncf.Dataset(samples, dict), subset_size=count)


WAYS = {
    "edgekit calibrate": calibrate_ours,
    "ONNX Runtime quantize_static, MinMax": calibrate_onnxruntime,
    "ONNX Runtime quantize_static, Entropy": calibrate_entropy,
    "nncf.quantize": calibrate_nncf,
}
KEEPS_ALL = frozenset({"ONNX Runtime quantize_static, Entropy"})


def measure(way: str, count: int) -> int:
    """Returns the bytes by which the peak of this process's memory rises while it calibrates."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "ds_cnn.onnx"
        DS_CNN.write(model)
        samples = Clothes(count)
        work = WAYS[way](model, samples)
        np.stack([sample["image"] for sample in samples[:1]])
        status = Path("/proc/self/status")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _read(status, "VmRSS:")
        work()
        return _read(status, "VmHWM:") - before


def _read(status: Path, key: str) -> int:
    lines = status.read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, nargs="+", default=[10, 100, 1000, 10000])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        way, count = arguments.alone
        print(measure(way, int(count)))
        return
    table = Table("calibration", *(f"{count} samples" for count in arguments.samples))
    found: dict[str, dict[int, int | None]] = {}
    for way in arguments.ways:
        found[way] = {}
        for count in arguments.samples:
            if way in KEEPS_ALL and count > _MOST_KEPT:
                found[way][count] = None
                continue
            command = [sys.executable, "-W", "ignore", __file__, "--alone", way, str(count)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[way][count] = int(done.stdout.split()[-1])
        cells = ["-" if size is None else f"{size / 1e6:.1f} MB" for size in found[way].values()]
        table.add_row(way, *cells)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    machine = describe_machine()
    print(f"{machine.cpu}, {machine.system}; DS-CNN, peaks above what was held before")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
