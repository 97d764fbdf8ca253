"""A quantized file that is slower than the float network."""

from __future__ import annotations

from typing import ClassVar

from edgekit.converters.doctor.onnx_subject import OnnxSubject
from edgekit.converters.doctor.rule import Bench, Cost, Finding, Rule

# Below this share and this difference the clock of a busy machine may be all that differs.
_SLOWER = 1.15
_LEAST_MS = 0.1


class SlowerThanFloat(Rule[OnnxSubject]):
    """Conversions around what stays float, or kernels without the instructions, may cost more than int8 saves."""

    id: ClassVar[str] = "slower-than-float"
    says: ClassVar[str] = (
        "The float network behind the file runs faster here than the file: measured in turns, with float weights."
    )
    source: ClassVar[str] = "https://github.com/microsoft/onnxruntime/issues/5319"

    def check(self, subject: OnnxSubject) -> list[Finding]:
        """Compares the times that were measured before; finds nothing where none were."""
        if subject.times is None:
            return []
        own, real = subject.times
        if own < _SLOWER * real or own - real < _LEAST_MS:
            return []
        return [
            Finding(
                self.id,
                tuple(str(value.name) for value in subject.graph.outputs),
                f"takes {own / real:.2f} times as long as the float network that it stands for",
                "mend the other faults first; otherwise keep what is slow in float (edgekit deploy measures that)",
            )
        ]

    def cost(self, subject: OnnxSubject, finding: Finding, bench: Bench) -> Cost:
        """Returns both times."""
        del finding, bench
        return Cost(ms=subject.times, basis=f"measured, 1 thread, {subject.samples_kind}")
