"""The CPU for which a file is judged: which integer products its instructions have."""

from __future__ import annotations

from dataclasses import dataclass

ONNX_RUNTIME = "onnxruntime"
_VNNI = frozenset({"x86_avxvnni", "x86_avx512vnni", "x86_amx"})


@dataclass(frozen=True)
class Processor:
    """The CPU for which a file is judged.

    Attributes:
        name: For reports.
        is_x86: Whether it is an x86; otherwise an Arm.
        has_vnni: Whether it sums products of four pairs in 32 bits; an x86 without it adds two pairs in 16 bits, which
            saturate.
        engine: Who runs ONNX files there: "onnxruntime", "openvino" or "tensorrt". What is a fault of ONNX Runtime's
            alone is looked for where that is the engine.
    """

    name: str
    is_x86: bool
    has_vnni: bool
    engine: str = ONNX_RUNTIME

    @classmethod
    def of(cls, name: str, isa: str, architecture: str, engine: str) -> Processor:
        """Returns the processor with an instruction set of edgekit's and an architecture as ``uname -m`` has it."""
        is_x86 = isa.startswith("x86") or architecture in ("x86_64", "i686", "AMD64")
        return cls(name, is_x86, isa in _VNNI, engine)
