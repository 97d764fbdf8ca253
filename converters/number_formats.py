"""The number formats that a layer may be computed in, layer by layer (docs/quantization.md, "Number formats")."""

from __future__ import annotations

from enum import Enum


class NumberFormat(Enum):
    """How a layer holds its weights, and what its input is while it multiplies.

    Names say weights first: "int4-rows" are int4 weights that multiply rows with int8 codes made at run time.
    """

    INT8 = "int8"
    """int8 weights, int8 activations whose grid calibration chose."""
    INT8_ROWS = "int8-rows"
    """int8 weights, each row of the input gets codes of its own at run time."""
    INT8_TENSOR = "int8-tensor"
    """int8 weights, the whole input gets codes at run time."""
    INT4 = "int4"
    """int4 weights, a scale for each group of them, int8 activations whose grid calibration chose."""
    INT4_ROWS = "int4-rows"
    """int4 weights in groups, each row of the input gets int8 codes at run time."""
    INT4_FLOAT = "int4-float"
    """int4 weights in groups, float32 activations."""
    INT16 = "16x8"
    """int8 weights, int16 activations around 0."""
    INT12 = "12x8"
    """int8 weights, activations of 12 bits in two int8 parts; what it writes is not rounded to codes."""
    INT12_WEIGHTS = "12x12"
    """The same with weights of 12 bits, in two int8 parts too."""
    FLOAT16 = "float16"
    """float16 weights, computed in float32."""
    FLOAT32 = "float32"
    """float32 throughout."""

    @property
    def weight_bits(self) -> int:
        """Bits of a stored weight, scales left out."""
        if self is NumberFormat.FLOAT32:
            return 32
        if self is NumberFormat.FLOAT16:
            return 16
        if self is NumberFormat.INT12_WEIGHTS:
            return 12
        return 4 if self.value.startswith("int4") else 8

    @property
    def is_static(self) -> bool:
        """Whether activations have a grid that calibration chose."""
        return self in (NumberFormat.INT8, NumberFormat.INT4, NumberFormat.INT16)

    @property
    def has_parts(self) -> bool:
        """Whether codes have more bits than a product takes, and come in parts."""
        return self in (NumberFormat.INT12, NumberFormat.INT12_WEIGHTS)
