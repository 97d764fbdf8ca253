"""Has a quantizer make its file, in a process of its own."""

from __future__ import annotations

import hashlib
import inspect
import json
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from edgekit.peers.contestant import Signature
from edgekit.targets.errors import ToolError
from quantizers.quantizer import Quantizer
from quantizers.worker import RESULT

_LONGEST_REASON = 300
# Seconds after which a quantizer is given up.
_LIMIT = 3600.0


@dataclass(frozen=True)
class Quantized:
    """What a quantizer made.

    Attributes:
        file: What `Quantizer.open` takes.
        how: How it was made, in words: functions and settings.
        seconds: How long that took.
        peak_bytes: Peak of the process's resident memory, libraries included.
    """

    file: Path
    how: str
    seconds: float
    peak_bytes: int


def run_quantizer(
    quantizer: Quantizer, model: Path, signature: Signature, samples: Path, folder: Path
) -> Quantized:
    """Returns what ``quantizer`` makes of a model; what is in the folder from the same files and versions is taken.

    Args:
        quantizer: Who.
        model: The float model with fixed shapes.
        signature: What it takes and gives.
        samples: Calibration samples, a file of `write_samples`.
        folder: Is made anew.

    Raises:
        ToolError: It is not installed, failed, crashed or took too long; says why.
    """
    missing = quantizer.find_missing()
    if missing:
        raise ToolError(missing)
    digest = hashlib.sha256(model.read_bytes() + samples.read_bytes()).hexdigest()
    code = hashlib.sha256(Path(inspect.getfile(type(quantizer))).read_bytes()).hexdigest()
    key = [digest, code, quantizer.get_version()]
    record = folder / RESULT
    if record.is_file():
        known = json.loads(record.read_text(encoding="utf-8"))
        if known.pop("key", None) == key:
            return Quantized(**{**known, "file": Path(known["file"])})
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    words = [quantizer.name, model, json.dumps(asdict(signature)), samples, folder]
    command = [sys.executable, "-W", "ignore", "-m", "quantizers.worker", *map(str, words)]
    with (folder / "log").open("w+", encoding="utf-8") as log:
        try:
            done = subprocess.run(
                command, cwd=Path(__file__).parent.parent, stdout=log, stderr=log, timeout=_LIMIT
            )
        except subprocess.TimeoutExpired:
            raise ToolError(f"took longer than {_LIMIT:.0f} s") from None
        log.seek(0)
        lines = log.read().strip().splitlines()
    if done.returncode or not record.is_file():
        end = f"signal {-done.returncode}" if done.returncode < 0 else f"exit {done.returncode}"
        raise ToolError(f"{end}: {lines[-1] if lines else 'said nothing'}"[:_LONGEST_REASON])
    made = json.loads(record.read_text(encoding="utf-8"))
    record.write_text(json.dumps({"key": key, **made}), encoding="utf-8")
    return Quantized(**{**made, "file": Path(made["file"])})
