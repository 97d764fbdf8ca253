"""What was measured before, kept in the user's cache by the content of all that it depends on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

import edgekit
from edgekit.building.native_build import cache_dir
from edgekit.converters.calibrate import Calibration, RangeChoice
from edgekit.converters.number_formats import NumberFormat
from edgekit.data import Sample
from edgekit.replace_folder import replace_file
from edgekit.sensitivity.effect import Effect

_FORMAT = 3
_LOG = logging.getLogger(__name__)

Key = tuple[str, NumberFormat]


class EffectCache:
    """The effects of one network's formats on one set of samples, in one file.

    A file that is damaged is as good as none. It is replaced as a whole; of two processes that write the same one the
    last wins, and both are right.

    Args:
        digest: Of everything that effects depend on, as `digest_subject` makes it.
        folder: Of the files; by default in the user's cache (EDGEKIT_CACHE).
    """

    def __init__(self, digest: str, folder: Path | None = None) -> None:
        self._path = (folder or cache_dir() / "sensitivity") / f"{digest}.json"
        self._digest = digest

    def read(self) -> dict[Key, Effect]:
        """Returns what is known; nothing where the file is missing, damaged, or of another network."""
        try:
            whole = json.loads(self._path.read_text(encoding="utf-8"))
            body = whole["effects"]
            if (whole["subject"], whole["sum"]) != (self._digest, _sum(body)):
                raise ValueError("its sum is wrong")
            return {
                (name, NumberFormat(format)): Effect.from_dict(facts)
                for name, formats in body.items()
                for format, facts in formats.items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            _LOG.warning("%s is damaged and is measured anew: %s", self._path, error)
            return {}

    def write(self, effects: Mapping[Key, Effect]) -> None:
        """Keeps ``effects``; where the cache cannot be written, that is logged."""
        body: dict[str, dict[str, object]] = {}
        for (name, format), effect in effects.items():
            body.setdefault(name, {})[format.value] = effect.to_dict()
        whole = {"subject": self._digest, "sum": _sum(body), "effects": body}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._path, json.dumps(whole).encode())
        except OSError as error:
            _LOG.warning("%s cannot be written: %s", self._path, error)


def digest_subject(
    graph: ir.Model,
    calibration: Calibration,
    ranges: RangeChoice,
    samples: Sequence[Sample],
    isa: str,
    measure: str,
) -> str:
    """Returns the SHA-256 of all that effects depend on, in hexadecimal.

    Args:
        graph: The float model, simplified.
        calibration: Made from it.
        ranges: How they are chosen.
        samples: What it is run on.
        isa: The kernels' instruction set.
        measure: Of the caller's measure: what it runs, or "".
    """
    whole = hashlib.sha256(f"{_FORMAT} {edgekit.__version__} {isa} {measure}\n".encode())
    whole.update(f"{ranges} {sorted(ranges.exceptions.items())}\n".encode())
    whole.update(f"{[value.name for value in graph.graph.outputs]}\n".encode())
    for value in (*graph.graph.inputs, *graph.graph.initializers.values()):
        constant = value.const_value
        whole.update(f"{value.name} {value.shape} {value.dtype}\n".encode())
        if constant is not None:
            whole.update(np.ascontiguousarray(constant.numpy()).tobytes())
    for node in graph.graph:
        names = [None if value is None else value.name for value in node.inputs]
        made = [value.name for value in node.outputs]
        whole.update(f"{node.domain} {node.op_type} {node.name} {names} {made}\n".encode())
        for name, attribute in sorted(node.attributes.items()):
            _add_attribute(whole, name, attribute)
    for name, sketch in sorted(calibration.sketches.items()):
        whole.update(f"{name} {sketch.lo} {sketch.hi}\n".encode())
        whole.update(sketch.counts.tobytes())
    for sample in samples:
        for name, array in sorted(sample.items()):
            whole.update(f"{name} {array.dtype} {array.shape}\n".encode())
            whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()


def _add_attribute(whole: hashlib._Hash, name: str, attribute: ir.Attr) -> None:
    if attribute.type is ir.AttributeType.TENSOR:
        whole.update(name.encode() + np.ascontiguousarray(attribute.as_tensor().numpy()).tobytes())
    else:
        whole.update(f"{name} {attribute.value}\n".encode())


def _sum(body: object) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
