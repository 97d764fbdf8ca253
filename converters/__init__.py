"""From a float model to a quantized graph, and from that to ONNX and native plans."""
