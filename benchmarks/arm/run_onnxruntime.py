"""Runs a network in ONNX Runtime on one thread some times: python3 run_onnxruntime.py FOLDER MODEL TIMES."""

import sys

sys.path.insert(0, sys.argv[1])

import numpy as np
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[2], options, providers=["CPUExecutionProvider"])
first = session.get_inputs()[0]
shape = [size if isinstance(size, int) else 1 for size in first.shape]
for _ in range(int(sys.argv[3])):
    session.run(None, {first.name: np.zeros(shape, np.float32)})
