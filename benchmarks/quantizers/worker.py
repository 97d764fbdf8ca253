"""The process of one quantizer: ``python -m quantizers.worker NAME MODEL SIGNATURE SAMPLES FOLDER``.

Writes ``quantized.json`` to the folder: file, how it was made, seconds, and the peak of resident memory above what the
libraries took before the model was opened.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from edgekit.peers.contestant import Problem
from edgekit.peers.samples_file import read_samples_file
from edgekit.peers.worker import parse_signature
from quantizers.list import find_quantizer

RESULT = "quantized.json"


def main() -> None:
    """Quantizes once."""
    name, model, signature, samples, folder = sys.argv[1:]
    home = Path(folder)
    problem = Problem(
        Path(model), parse_signature(json.loads(signature)), read_samples_file(Path(samples)), home
    )
    start = time.perf_counter()
    made = find_quantizer(name).quantize(problem)
    seconds = time.perf_counter() - start
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(1024 * resource.getrusage(who).ru_maxrss for who in both)
    content = {"file": str(made.file), "how": made.how, "seconds": seconds, "peak_bytes": peak}
    (home / RESULT).write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    main()
