"""What rounds a layer's weights: by the Hessian of its inputs where there is one, by their moments elsewhere."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.calibrate import Calibration
from edgekit.converters.compensate import CodeRange, round_by_hessians
from edgekit.converters.hessians import Hessians
from edgekit.converters.round_weights import GroupScales, InputStatistics, round_weights


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
        targets: npt.NDArray[np.float64],
        inputs: InputStatistics,
        limit: int,
        low: int | None = None,
        scales: GroupScales | None = None,
    ) -> npt.NDArray[np.float64]:
        """Returns a code for each target."""
        digest = hashlib.sha256(np.ascontiguousarray(targets).data).digest()
        by = None if self._hessians is None else (self._hessians.digest, self._name)
        return self._calibration.recall(
            (self._source, targets.shape, digest, limit, by),
            lambda: self._round(targets, inputs, limit, low, scales).astype(np.int8),
        ).astype(np.float64)

    def _round(
        self,
        targets: npt.NDArray[np.float64],
        inputs: InputStatistics,
        limit: int,
        low: int | None,
        scales: GroupScales | None,
    ) -> npt.NDArray[np.float64]:
        if self._hessians is None:
            return round_weights(targets, inputs, limit, low, scales)
        return round_by_hessians(
            targets,
            inputs,
            CodeRange(-limit if low is None else low, limit),
            self._hessians.matrices(self._name),
            self._hessians.count(self._name),
            self._hessians.count_images(self._name),
            scales,
        )
