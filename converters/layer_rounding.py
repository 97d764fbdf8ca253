"""What rounds a layer's weights: by the Hessian of its inputs where there is one, by their moments elsewhere."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.calibrate import Calibration
from edgekit.converters.compensate import (
    FEW_INPUTS,
    INT4,
    CodeRange,
    Hessians,
    choose_scales,
    fit_rows,
    fit_runs,
    round_by_hessians,
)
from edgekit.converters.prune.record import is_pruned
from edgekit.converters.round_weights import GroupScales, InputStatistics, round_weights

Doubles = npt.NDArray[np.float64]


class LayerRounding:
    """Rounds the weights of a node as `round_weights`, the same weights for the same input once for a calibration.

    Of a node whose weights were pruned, those that are 0 stay 0.
    """

    def __init__(
        self, node: ir.Node, calibration: Calibration, hessians: Hessians | None = None
    ) -> None:
        self._name = node.name or ""
        self._source = str(node.inputs[0].name) if node.inputs[0] is not None else ""
        self._calibration = calibration
        self._keep_zeros = is_pruned(node)
        self._hessians = hessians if hessians is not None and self._name in hessians else None

    def __call__(
        self,
        targets: Doubles,
        inputs: InputStatistics,
        limit: int,
        low: int | None = None,
        scales: GroupScales | None = None,
    ) -> Doubles:
        """Returns a code for each target."""
        hessians = self._hessians

        def compute() -> npt.NDArray[np.int8]:
            if hessians is None or scales is not None:
                return round_weights(
                    targets, inputs, limit, low, scales, keep_zeros=self._keep_zeros
                ).astype(np.int8)
            codes = CodeRange(-limit if low is None else low, limit)
            blended = hessians.blended(self._name)
            return round_by_hessians(targets, codes, blended, keep_zeros=self._keep_zeros).astype(
                np.int8
            )

        key = (self._source, self._by, self._keep_zeros, _digest(targets), limit, low)
        return self._calibration.recall(key, compute).astype(np.float64)

    def fit_scales(self, rows: Doubles, limit: int, least: Doubles) -> Doubles:
        """Returns the scales that codes lose least with, ``[C]``: ``least`` where inputs are many or have no Hessian.

        Args:
            rows: Weights, ``[C, I, P]``.
            limit: Largest code.
            least: The smallest scale of each channel, ``[C]``.
        """
        hessians = self._hessians
        depth = rows.shape[1] * rows.shape[2]
        if hessians is None or depth > FEW_INPUTS or not rows.size:
            return least

        def compute() -> Doubles:
            blended = hessians.blended(self._name)
            shaped = rows.reshape(len(blended), -1, depth)
            codes = CodeRange(-limit, limit)
            return choose_scales(shaped, blended, codes, least.reshape(shaped.shape[:2])).ravel()

        key = (self._source, self._by, _digest(rows), limit, _digest(least), "scales")
        found: Doubles = self._calibration.recall(key, compute)
        return found.copy()

    def fit_int4(self, rows: Doubles, run: int, least: Doubles) -> tuple[Doubles, Doubles] | None:
        """Returns int4 codes and the scales that suit them, chosen together, or None where there is no Hessian.

        Args:
            rows: Weights, ``[C, I, P]``.
            run: Weights of a channel along k that share a scale; 0: all.
            least: The smallest scale of each channel, ``[C]``; of those of runs there is none.

        Returns:
            Codes ``[C, I, P]`` and scales, of float32, ``[C, runs]``.
        """
        hessians = self._hessians
        if hessians is None:
            return None

        def compute() -> tuple[npt.NDArray[np.int8], Doubles]:
            blended = hessians.blended(self._name)
            groups, depth = blended.shape[:2]
            shaped = rows.reshape(groups, -1, depth)
            if run:
                found = fit_runs(shaped[0], blended[0], INT4, run, keep_zeros=self._keep_zeros)
            else:
                found = fit_rows(
                    shaped,
                    blended,
                    INT4,
                    least.reshape(groups, -1),
                    keep_zeros=self._keep_zeros,
                )
            return found.codes.astype(np.int8), found.scales.reshape(len(rows), -1)

        key = (self._source, self._by, self._keep_zeros, _digest(rows), run, _digest(least))
        codes, scales = self._calibration.recall(key, compute)
        return codes.astype(np.float64).reshape(rows.shape), scales

    @property
    def _by(self) -> tuple[str, str] | None:
        """What the result hangs on besides the weights and the moments of their input."""
        return None if self._hessians is None else (self._hessians.digest, self._name)


def _digest(array: Doubles) -> tuple[tuple[int, ...], bytes]:
    return array.shape, hashlib.sha256(np.ascontiguousarray(array).data).digest()
