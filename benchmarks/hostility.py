"""Measures what int8 keeps of networks that were made hostile to it (`hostile.py`), ours and by other quantizers.

Each network is measured as it was trained and in each way that channels can be scaled apart, just as `accuracy.py`
measures it: same pictures, none of them for calibration, same deployments and peers, each beside its own float model.
How far the hostile float model is from the trained one is printed as well.

    PYTHONPATH=examples python benchmarks/hostility.py lite0 ds-cnn --forms native --peers "ONNX Runtime minmax" \\
        --json build/hostility.json
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx

import accuracy
import edgekit
from accuracy_table import make_table
from comparing import ComparedSession, read_largest
from contest import choose
from edgekit.timing import describe_machine
from hostile import KINDS, make_hostile
from networks import UNTIMED, Network

# Bars of accuracy, whose channels a Relu or a clamp lets be scaled.
NAMES = ("EfficientNet-Lite0", "DS-CNN", "CNN")
SEED = 3


def list_variants(network: Network) -> Iterator[Network]:
    """Yields a network as it was trained, and made hostile in each way."""
    yield network
    for kind in KINDS:

        def write(path: Path, kind: str = kind) -> None:
            with TemporaryDirectory() as folder:
                trained = Path(folder) / f"trained{network.suffix}"
                network.write(trained)
                onnx.save(make_hostile(trained, kind=kind, seed=SEED), path)

        hostile = replace(network, name=f"{network.name}, {kind}", write=write)
        accuracy.MEASURES[hostile.name] = accuracy.MEASURES[network.name]
        yield hostile


def compare_floats(trained: Path, hostile: Path, network: Network) -> str:
    """Returns how far a hostile float model is from the trained one, on calibration samples."""
    with TemporaryDirectory() as folder:
        samples = network.read_samples(Path(folder))
    session = ComparedSession(edgekit.load(hostile), edgekit.load(trained), read_largest)
    scaling = np.array([np.abs(next(iter(session.run(s).values()))).max() for s in samples])
    same = session.agreement
    assert same is not None
    return f"{session.snr_db:.1f} dB, {same.value:.4f} of {same.count} answers the same, outputs to {scaling.max():.3g}"


def main() -> int:
    arguments = accuracy.parse_arguments()
    arguments.quantizers = [each for each in arguments.quantizers if each.weights == 8]
    records, floats = [], {}
    for network in choose(arguments.networks or list(NAMES), UNTIMED):
        trained, *others = list_variants(network)
        for variant in (trained, *others):
            try:
                records.append(accuracy.measure(variant, arguments))
            except FileNotFoundError as error:
                accuracy.console.print(f"[bold yellow]LEFT OUT[/] {variant.name}: {error}")
                break
            if variant is not trained:
                paths = [
                    arguments.output.resolve() / each.name.replace(" ", "_") / "source.onnx"
                    for each in (trained, variant)
                ]
                floats[variant.name] = compare_floats(*paths, network)
            accuracy.save(arguments, records, [])
    accuracy.console.print(make_table(records))
    for name, told in floats.items():
        accuracy.console.print(f"{name}, float beside float as trained: {told}")
    accuracy.console.print(str(describe_machine()))
    return 0 if records else 1


if __name__ == "__main__":
    sys.exit(main())
