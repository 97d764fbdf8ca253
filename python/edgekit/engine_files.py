"""Names of the files that make a TensorRT engine on the board."""

SCRIPT = "build-engine.sh"
SETTINGS = "engine.conf"
DLA_FILE = "model.dla.onnx"
DLA_RANGES = "model.dla.ranges"
ENGINE_FILES = (SCRIPT, SETTINGS, DLA_FILE, DLA_RANGES)
