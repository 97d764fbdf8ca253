"""LiteRT's quantizer on the float TFLite that onnx2tf makes, recipe "static_wi8_ai8" or the same with 4-bit weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.peers.contestant import Package, Prepared, Problem, Run, Signature
from edgekit.peers.litert import LiteRt, quantize
from quantizers.quantizer import Quantizer

_FLOAT = LiteRt("float")


@dataclass(frozen=True)
class LiteRtStatic(Quantizer):
    """LiteRT's quantizer by one of its algorithms: "minmax", "mse" or "octav"."""

    @property
    def tool(self) -> str:
        """The tool's name."""
        return "LiteRT"

    @property
    def packages(self) -> tuple[Package, ...]:
        """The interpreter, the quantizer, and what makes the float file."""
        return _FLOAT.packages

    def quantize(self, problem: Problem) -> Prepared:
        """Converts and quantizes; inputs and outputs stay float."""
        from litert_quantizer import recipe
        from litert_quantizer.algorithm_manager import AlgorithmName
        from litert_quantizer.qtyping import TFLOperationName
        from litert_quantizer.recipe_manager import RecipeManager

        plain = _FLOAT.prepare(problem)
        algorithms = {
            "minmax": AlgorithmName.MIN_MAX_UNIFORM_QUANT,
            "mse": AlgorithmName.MSE,
            "octav": AlgorithmName.OCTAV,
        }
        rules = recipe.static_wi8_ai8()
        narrow = ("CONV_2D", "FULLY_CONNECTED")
        if self.weights != 8 or self.setting != "minmax":
            manager = RecipeManager()
            manager.load_quantization_recipe(rules)
            for kind in narrow:
                manager.add_static_config(
                    ".*",
                    TFLOperationName(kind),
                    activation_num_bits=8,
                    weight_num_bits=self.weights,
                    algorithm_key=algorithms[self.setting],
                )
            rules = manager.get_quantization_recipe()
        file = quantize(plain.file, problem, rules)
        how = f"{plain.how}, litert_quantizer static_wi8_ai8, float borders"
        if self.weights != 8 or self.setting != "minmax":
            how += f"; {' and '.join(narrow)} wi{self.weights}_ai8 by {self.setting}"
        return Prepared(file, how)

    def open(self, file: Path, signature: Signature) -> Run:
        """Makes an interpreter with XNNPACK."""
        return _FLOAT.open(file, signature, threads=1)
