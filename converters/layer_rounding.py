"""What rounds a layer's weights: by the Hessian of its inputs where there is one, by their moments elsewhere."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.calibrate import Calibration
from edgekit.converters.compensate import (
    INT4,
    CodeRange,
    Hessians,
    fit_rows,
    fit_runs,
    round_by_hessians,
)
from edgekit.converters.round_weights import GroupScales, InputStatistics, round_weights

Doubles = npt.NDArray[np.float64]


class LayerRounding:
    """Rounds the weights of a node as `round_weights`, the same weights for the same input once for a calibration."""

    def __init__(
        self, node: ir.Node, calibration: Calibration, hessians: Hessians | None = None
    ) -> None:
        self._name = node.name or ""
        self._source = str(node.inputs[0].name) if node.inputs[0] is not None else ""
        self._calibration = calibration
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
                return round_weights(targets, inputs, limit, low, scales).astype(np.int8)
            codes = CodeRange(-limit if low is None else low, limit)
            return round_by_hessians(targets, codes, hessians.blended(self._name)).astype(np.int8)

        key = (self._source, self._by, _digest(targets), limit, low)
        return self._calibration.recall(key, compute).astype(np.float64)

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
                found = fit_runs(shaped[0], blended[0], INT4, run)
            else:
                found = fit_rows(shaped, blended, INT4, least.reshape(groups, -1))
            return found.codes.astype(np.int8), found.scales.reshape(len(rows), -1)

        key = (self._source, self._by, _digest(rows), run, _digest(least))
        codes, scales = self._calibration.recall(key, compute)
        return codes.astype(np.float64).reshape(rows.shape), scales

    @property
    def _by(self) -> tuple[str, str] | None:
        """What the result hangs on besides the weights and the moments of their input."""
        return None if self._hessians is None else (self._hessians.digest, self._name)


def _digest(array: Doubles) -> tuple[tuple[int, ...], bytes]:
    return array.shape, hashlib.sha256(np.ascontiguousarray(array).data).digest()
