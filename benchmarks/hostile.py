"""Makes networks hostile to quantization while their float answers stay the same.

Between a layer and the next each channel may be scaled, if the weights on both sides take it back: through Relu, pools,
sums, concatenations, normalizations' own scales, and through Clip, which gets bounds for each channel. Float does not
notice; one grid for a whole tensor does. Channels can be scaled apart all over a network, as in networks whose
equalization was undone, or one channel of each layer made an outlier.

    python benchmarks/hostile.py MODEL.onnx HOSTILE.onnx --kind spread --seed 1
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from edgekit.converters.element_sets.variables import PINNED
from edgekit.converters.passes import simplify
from edgekit.converters.read_onnx import infer_shapes, read_onnx
from edgekit.converters.recover.find_scaling import find_scaling
from edgekit.converters.recover.rescale import rescale
from edgekit.converters.recover.scales import Layer, Norm

SPREAD, OUTLIER = "spread", "outlier"
KINDS = (SPREAD, OUTLIER)


def make_hostile(
    path: Path, *, kind: str = SPREAD, seed: int = 0, apart: float = 1000.0
) -> onnx.ModelProto:
    """Returns the network at ``path``, simplified, with the same answers and channels that are scaled apart.

    Args:
        path: An ``.onnx`` file.
        kind: "spread" scales all channels that can be, evenly in the logarithm; "outlier" one channel of each layer.
        seed: Of the choice.
        apart: How far the largest factor lies above the smallest one.
    """
    model = read_onnx(path)
    simplify(model)
    make_channels_hostile(model, kind=kind, seed=seed, apart=apart)
    return ir.to_proto(model)


def make_channels_hostile(model: ir.Model, *, kind: str, seed: int, apart: float) -> int:
    """Scales channels of a simplified network in place; returns how many sets of channels."""
    random = np.random.default_rng(seed)
    scaling = find_scaling(model)
    factors: dict[int, float] = {}
    if kind == SPREAD:
        for root in scaling.free().tolist():
            factors[root] = float(apart ** (random.random() - 0.5))
    else:
        for site in scaling.sites:
            if isinstance(site, Layer | Norm):
                roots = np.unique(scaling.variables.roots(site.outputs))
                roots = roots[roots != PINNED]
                if roots.size > 1 and not factors.keys() & set(roots.tolist()):
                    factors[int(random.choice(roots))] = apart
    rescale(model, scaling, factors)
    infer_shapes(model)
    return len(factors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--kind", choices=KINDS, default=SPREAD)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--apart", type=float, default=1000.0)
    arguments = parser.parse_args()
    model = make_hostile(
        arguments.model, kind=arguments.kind, seed=arguments.seed, apart=arguments.apart
    )
    onnx.save(model, arguments.output)


if __name__ == "__main__":
    main()
