"""Quantizes an ONNX model with aimet-onnx and writes it as QDQ; runs in an environment where nothing of ours is.

python run_aimet.py MODEL SAMPLES.npz OUTPUT '{"setting": "tfe", "weights": 8}'
"""

import json
import sys

import aimet_onnx
import numpy as np
import onnx
import onnxruntime
from aimet_onnx import QuantizationSimModel
from aimet_onnx.cross_layer_equalization import equalize_model

# Of its steps for each layer; 10,000 is its default and takes hours on two cores.
_ADAROUND_STEPS = 1000


def main() -> None:
    model, samples, output, settings = sys.argv[1:]
    chosen = json.loads(settings)
    setting, weights = chosen["setting"], chosen["weights"]
    # Its cost follows the machine's cores; results do not.
    onnxruntime.set_default_logger_severity(3)
    proto = onnx.load(model)
    by_sample: dict[int, dict[str, np.ndarray]] = {}
    with np.load(samples, allow_pickle=False) as arrays:
        for key in arrays.files:
            index, _, name = key.partition("/")
            by_sample.setdefault(int(index), {})[name] = arrays[key]
    inputs = [by_sample[index] for index in sorted(by_sample)]
    how = []
    if setting == "cle":
        equalize_model(proto)
        how.append("equalize_model")
    scheme = "min_max" if setting == "minmax" else "tf_enhanced"
    simulation = QuantizationSimModel(
        proto,
        param_type=f"int{weights}",
        activation_type="int8",
        quant_scheme=scheme,
        dummy_input=inputs[0],
    )
    how.append(f"QuantizationSimModel int{weights} weights, {scheme}")
    if setting == "adaround":
        aimet_onnx.apply_adaround(simulation, inputs, num_iterations=_ADAROUND_STEPS)
        how.append(f"apply_adaround of {_ADAROUND_STEPS} steps")
    simulation.compute_encodings(inputs)
    onnx.save(simulation.to_onnx_qdq(), output)
    print(", ".join(how))


if __name__ == "__main__":
    main()
