"""The account of a deployment: what it is and what it was measured to be."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from edgekit.agreement import Proportion
from edgekit.report.asked import Asked, Front
from edgekit.report.evaluation import ChangedSample, Evaluation
from edgekit.report.figures import Accuracy, Latency, Memory, Size
from edgekit.report.layers import Fusion, Layer, Precision, Tflite
from edgekit.report.pruning import PruningAccount
from edgekit.timing import Machine

# Of the JSON: counted up where a key changes its meaning or goes.
SCHEMA = 1


@dataclass(frozen=True)
class Account:
    """The account of one deployment: the figures of a `Report`, which also shows them.

    Attributes:
        model: Name of the source file.
        source_digest: SHA-256 of the source model.
        target: The board's profile.
        isa: Instruction set of the native form.
        batch: Leading dimension of the native form.
        calibration: Where the calibration samples came from, in words.
        ranges: How ranges were chosen from the calibration, "" where the forms need none.
        machine: Where the figures were measured.
        versions: Of edgekit and of what it was compared with.
        sizes: Of each form.
        latencies: Of each form and number of threads; empty where the target is not this machine.
        memory: Of the native form.
        layers: Of the native form.
        precision: Of the native form's layers.
        onnx_arithmetic: Of the ONNX form: "int8", "16x8", "int4 weights" or "float32"; None where there is none.
        fusion: Of the ONNX form.
        tflite: Of the TFLite form.
        accuracy: By the caller's measure.
        snr_db: Power of the float model's answers to calibration samples over that of the differences, in decibels, for
            the output that suffers most; 300 where they are equal.
        agreement: How many calibration samples get the same answer (largest output) from float and int8.
        notes: What a reader must know: what was not measured, and what is worse than float.
        asked: The bounds that were asked for, and what was kept of them.
        evaluation: The caller's measure by class and subgroup, where it gives a score for each sample.
        changed: The samples whose answers changed most.
        front: The plans that a search tried, None where none was made.
        noise: How the layers' `Layer.noise_db` was measured, in words.
        made_from: What else than `deploy` made this report, which then lacks what that measures; "" for `deploy`.
        pruning: What was pruned, None where nothing was asked for.
        float_memory: What the native form would hold with every layer in float32; None where that was not looked at.
    """

    model: str
    source_digest: str
    target: str
    isa: str
    batch: int
    calibration: str
    ranges: str
    machine: Machine
    versions: dict[str, str]
    sizes: list[Size]
    latencies: list[Latency] = field(default_factory=list)
    memory: Memory | None = None
    layers: list[Layer] = field(default_factory=list)
    precision: Precision | None = None
    onnx_arithmetic: str | None = None
    fusion: Fusion | None = None
    tflite: Tflite | None = None
    accuracy: Accuracy | None = None
    snr_db: float | None = None
    agreement: Proportion | None = None
    notes: list[str] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    evaluation: Evaluation | None = None
    changed: list[ChangedSample] = field(default_factory=list)
    front: Front | None = None
    noise: str = ""
    float_memory: Memory | None = None
    pruning: PruningAccount | None = None
    made_from: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns everything in a form that JSON can hold."""
        return {
            "schema": SCHEMA,
            "model": self.model,
            "source_digest": self.source_digest,
            "target": self.target,
            "isa": self.isa,
            "batch": self.batch,
            "calibration": self.calibration,
            "ranges": self.ranges,
            "machine": self.machine.to_dict(),
            "versions": self.versions,
            "sizes": [size.to_dict() for size in self.sizes],
            "latencies": [latency.to_dict() for latency in self.latencies],
            "memory": self.memory and self.memory.to_dict(),
            "layers": [layer.to_dict() for layer in self.layers],
            "precision": self.precision and self.precision.to_dict(),
            "onnx_arithmetic": self.onnx_arithmetic,
            "fusion": self.fusion and self.fusion.to_dict(),
            "tflite": self.tflite and self.tflite.to_dict(),
            "accuracy": self.accuracy and self.accuracy.to_dict(),
            "snr_db": self.snr_db,
            "agreement": self.agreement and self.agreement.to_dict(),
            "made_from": self.made_from,
            "notes": self.notes,
            "asked": [asked.to_dict() for asked in self.asked],
            "evaluation": self.evaluation and self.evaluation.to_dict(),
            "changed": [sample.to_dict() for sample in self.changed],
            "front": self.front and self.front.to_dict(),
            "noise": self.noise,
            "pruning": self.pruning and self.pruning.to_dict(),
            "float_memory": self.float_memory and self.float_memory.to_dict(),
        }

    def to_json(self) -> str:
        """Returns `to_dict` as indented JSON."""
        return json.dumps(self.to_dict(), indent=2)
