"""What is really lost when one space is cut and all behind it repaired: measured, to set right what was reckoned."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.calibrate.observe import Sample
from edgekit.converters.noise import relative_noise
from edgekit.converters.prune.channels.channels import Channels, Role, Space
from edgekit.converters.prune.channels.cut import cut
from edgekit.converters.prune.channels.find_channels import find_channels
from edgekit.converters.prune.channels.importance import Order
from edgekit.converters.prune.channels.observe import run
from edgekit.converters.prune.channels.repair import Progress, Targets, repair
from edgekit.converters.prune.channels.rows import find_rows

# Measured losses count as at least this part of the reckoned ones.
_LEAST = 1 / 8
# What holds weights where they are in a repair that is only tried.
_HOLD = 1e-2
# Where no unit of a space is to go yet, this part of them is tried.
_PART = 4

Kept = Mapping[str, npt.NDArray[np.int64]]
Answer = Mapping[str, npt.NDArray[np.generic]]


def answer(model: ir.Model, samples: Collection[Sample]) -> list[Answer]:
    """Returns what a graph gives for each sample."""
    names = [str(value.name) for value in model.graph.outputs]
    return [{name: values[name] for name in names} for _, values in run(model, samples, names)]


def list_kept(model: ir.Model, channels: Channels, units: Collection[int], before: Kept) -> Kept:
    """Returns which channels of the results of layers are left when more units go, by the name of their node."""
    gone, found = frozenset(units), dict(before)
    for node in model.graph:
        layer = find_rows(node)
        if layer is None:
            continue
        ids = channels.values[node.outputs[0]]
        stays = np.broadcast_to(channels.kept(ids, gone).reshape(-1), (layer.bias.size,))
        name = str(node.name)
        found[name] = found.get(name, np.arange(stays.size))[stays]
    return found


class Trials:
    """Cuts of one space at a time.

    Args:
        targets: Of the whole graph over ``samples``.
        samples: What trials are repaired with.
        measured: What they are measured with.
        wanted: What the whole graph answers to these.
        far: Whether all layers behind a cut are repaired, not only those that read what is cut.
    """

    def __init__(
        self,
        targets: Targets,
        samples: Collection[Sample],
        measured: Collection[Sample],
        wanted: Sequence[Answer],
        *,
        far: bool,
    ) -> None:
        self._targets, self._samples = targets, samples
        self._measured, self._wanted, self._far = measured, wanted, far

    def correct(
        self,
        model: ir.Model,
        orders: Sequence[Order],
        chosen: Mapping[Space, Sequence[int]],
        kept: Kept,
        touched: Collection[str],
        keep: Collection[str],
        progress: Progress | None = None,
    ) -> list[Order]:
        """Returns ``orders`` with losses as they are when what is chosen of one space is cut and repaired.

        Args:
            model: The graph, which is not changed.
            orders: Of its spaces.
            chosen: The units of each space that would go by the losses that were reckoned.
            kept: What is left of the results of its layers already.
            touched: Names of the layers that were cut already.
            keep: As for `find_channels`.
            progress: Called after each space with the number done and of all.
        """
        now = relative_noise(self._wanted, answer(model, self._measured))
        found = []
        for number, order in enumerate(orders):
            if progress is not None:
                progress(number, len(orders))
            count = len(chosen.get(order.space, ())) or max(1, len(order.units) // _PART)
            reckoned = float(order.losses[count])
            if count >= len(order.units) or reckoned <= 0:
                found.append(order)
                continue
            small = model.clone()
            channels = find_channels(small, keep)
            units = order.units[:count]
            left = list_kept(small, channels, units, kept)
            readers = None if self._far else _list_readers(channels, order.space)
            cut(small, channels, units)
            behind = {*touched, *order.space.layers}
            repair(small, self._targets, left, self._samples, behind, only=readers, holds=(_HOLD,))
            lost = relative_noise(self._wanted, answer(small, self._measured)) - now
            factor = max(lost, 0.0) / reckoned
            if not order.is_guess:
                factor = max(factor, _LEAST)
            found.append(replace(order, losses=order.losses * factor, is_guess=False))
        return found


def _list_readers(channels: Channels, space: Space) -> set[str]:
    """Returns the names of the nodes that read units of a space."""
    return {
        str(slab.node.name)
        for slab in channels.slabs
        if slab.role is Role.READS and np.isin(channels.units_of(slab), space.units).any()
    }
