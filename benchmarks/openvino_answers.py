"""Runs a file in OpenVINO, in a process of its own: some files bring it down.

    python openvino_answers.py model.onnx inputs.npz outputs.npz

Arrays of the inputs are named ``SAMPLE:INPUT``, those of the outputs ``SAMPLE:OUTPUT``.
"""

from __future__ import annotations

import sys

import numpy as np
import openvino


def main() -> None:
    model, given, wanted = sys.argv[1:]
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1})
    samples: dict[str, dict[str, np.ndarray]] = {}
    with np.load(given) as arrays:
        for key, array in arrays.items():
            number, _, name = key.partition(":")
            samples.setdefault(number, {})[name] = array
    answers = {}
    for number, sample in samples.items():
        found = compiled(sample)
        for index, port in enumerate(compiled.outputs):
            # An output that two operators give has the names of both.
            for name in port.get_names():
                answers[f"{number}:{name}"] = np.array(found[index])
    np.savez(wanted, **answers)


if __name__ == "__main__":
    main()
