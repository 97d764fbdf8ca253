"""The list of quantizers."""

from __future__ import annotations

from quantizers.aimet import Aimet
from quantizers.litert import LiteRtStatic
from quantizers.nncf_ptq import NncfOnnx, NncfOpenVino
from quantizers.onnxruntime_static import OnnxRuntimeStatic
from quantizers.quantizer import Quantizer

QUANTIZERS: tuple[Quantizer, ...] = (
    OnnxRuntimeStatic("minmax"),
    OnnxRuntimeStatic("entropy"),
    OnnxRuntimeStatic("percentile"),
    NncfOnnx("ONNX"),
    NncfOnnx("mixed"),
    NncfOpenVino("OpenVINO"),
    LiteRtStatic("minmax"),
    Aimet("tfe"),
    Aimet("cle"),
    OnnxRuntimeStatic("minmax", 4),
    LiteRtStatic("minmax", 4),
    LiteRtStatic("mse", 4),
    Aimet("tfe", 4),
    Aimet("adaround", 4),
)


def find_quantizer(name: str) -> Quantizer:
    """Returns the quantizer of that name.

    Raises:
        KeyError: There is none.
    """
    return {quantizer.name: quantizer for quantizer in QUANTIZERS}[name]
