"""Says where ONNX Runtime spends a run: by its own profiler, node by node of the optimized graph."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from edgekit.converters.doctor.subject import Sample
from edgekit.targets.errors import ModelError

_RUNS = 7
_TIME = "_kernel_time"


@dataclass(frozen=True)
class NodeTime:
    """What a node of the optimized graph takes: its name, its operator, and the median of its milliseconds."""

    name: str
    op_type: str
    ms: float


def profile_onnx(path: Path, sample: Sample) -> list[NodeTime]:
    """Runs the file at ``path`` several times with all optimizations, on one thread.

    Raises:
        ModelError: ONNX Runtime cannot run it.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        try:
            session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            for _ in range(_RUNS):
                session.run(None, dict(sample))
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        except Exception as error:  # ONNX Runtime's own classes share no public base.
            raise ModelError(f"{path}: ONNX Runtime cannot run it: {error}") from error
    times: Mapping[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event.get("name", "").endswith(_TIME):
            kind = str(event["args"].get("op_name", ""))
            times[event["name"].removesuffix(_TIME), kind].append(event["dur"] / 1000)
    return [NodeTime(name, kind, statistics.median(ms)) for (name, kind), ms in times.items()]
