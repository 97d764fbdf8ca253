"""Reads TensorFlow Lite files: as the float ONNX model that they are, and with the scales that they have."""

from edgekit.converters.read_tflite.read_tflite import TfliteNetwork, read_tflite

__all__ = ["TfliteNetwork", "read_tflite"]
