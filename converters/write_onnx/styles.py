"""What each engine wants of an ONNX file; the numbers are the same in every style."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgekit.targets.errors import EdgekitError

Codes = Literal["uint8", "int8", "uint16", "int16"]
Engine = Literal["onnxruntime", "openvino", "tensorrt"]


@dataclass(frozen=True)
class Style:
    """How an engine wants codes written.

    Attributes:
        name: As profiles and ``deploy`` call it.
        engine: Who runs the file.
        codes: How activations are stored: as they are, shifted by 128 in uint8, or on a finer grid of 16 bits.
        integer_bias: Whether a bias is int32 codes behind a DequantizeLinear, or the real values that those stand for.
        symmetric: Whether zero points have to be 0, for which the graph is quantized so.
        arithmetic: What the network is in such a file, in words.
        is_real: Whether activations are float32, so that ranges do not matter.
    """

    name: str
    engine: Engine
    codes: Codes
    integer_bias: bool = True
    symmetric: bool = False
    arithmetic: str = "int8"
    is_real: bool = False

    @property
    def shift(self) -> int:
        """What is added to a code of 8 bits when it is stored."""
        return 128 if self.codes == "uint8" else 0

    @property
    def multiplies_dynamically(self) -> bool:
        """Whether the engine multiplies int8 weights with floats that it gives codes at run time: LSTM, MatMulNBits."""
        return self.engine == "onnxruntime" and not self.is_wide

    @property
    def reads_int4(self) -> bool:
        """Whether the engine turns a Cast of int4 constants into int8 ones before it looks for operators on codes."""
        return self.engine == "onnxruntime"

    @property
    def is_wide(self) -> bool:
        """Whether activations have 16 bits."""
        return self.codes in ("uint16", "int16")


STYLES = {
    style.name: style
    for style in (
        # MLAS multiplies unsigned by signed on x86; int8 activations stay float there where the graph branches.
        Style("ort-x86", "onnxruntime", "uint8"),
        Style("ort-arm", "onnxruntime", "int8"),
        Style("ort-x86-qlinear", "onnxruntime", "uint8"),
        Style("ort-arm-qlinear", "onnxruntime", "int8"),
        # 16 bits between the operators, as accelerators behind ONNX Runtime take them; its CPU computes in floats.
        Style("ort-uint16", "onnxruntime", "uint16", integer_bias=False, arithmetic="16x8"),
        Style("ort-int16", "onnxruntime", "int16", integer_bias=False, arithmetic="16x8"),
        # Weights alone, of products, as MatMulNBits multiplies them.
        Style("ort-int4", "onnxruntime", "uint8", False, arithmetic="int4 weights", is_real=True),
        # oneDNN multiplies unsigned by signed as well, and adds a float bias.
        Style("openvino", "openvino", "uint8", integer_bias=False),
        Style("tensorrt", "tensorrt", "int8", integer_bias=False, symmetric=True),
        # For GPUs without int8, and for DLA, which takes no QuantizeLinear.
        Style("tensorrt-float", "tensorrt", "int8", False, arithmetic="float32", is_real=True),
    )
}


def get_style(name: str | Style) -> Style:
    """Returns the style of that name.

    Raises:
        EdgekitError: There is none.
    """
    if isinstance(name, Style):
        return name
    if name not in STYLES:
        raise EdgekitError(f"no ONNX style {name!r}; there are: {', '.join(STYLES)}")
    return STYLES[name]
