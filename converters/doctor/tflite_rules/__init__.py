"""The rules for TensorFlow Lite files, in the order in which they are checked and fixed."""

from __future__ import annotations

from edgekit.converters.doctor.rule import Rule
from edgekit.converters.doctor.tflite_rules.does_not_load import TfliteDoesNotLoad
from edgekit.converters.doctor.tflite_rules.float16_behind_dequantize import Float16BehindDequantize
from edgekit.converters.doctor.tflite_rules.float_island import TfliteFloatIsland
from edgekit.converters.doctor.tflite_rules.layout_transposes import TfliteLayoutTransposes
from edgekit.converters.doctor.tflite_rules.missing_shapes import TfliteMissingShapes
from edgekit.converters.doctor.tflite_rules.needs_delegate import NeedsDelegate
from edgekit.converters.doctor.tflite_rules.per_tensor_depthwise import TflitePerTensorDepthwise
from edgekit.converters.doctor.tflite_rules.shared_concat_scale import TfliteSharedConcatScale
from edgekit.converters.doctor.tflite_rules.unfused_activation import UnfusedActivation
from edgekit.converters.doctor.tflite_rules.unsigned_weights import TfliteUnsignedWeights
from edgekit.converters.doctor.tflite_subject import TfliteSubject

RULES: tuple[Rule[TfliteSubject], ...] = (
    TfliteDoesNotLoad(),
    NeedsDelegate(),
    TfliteMissingShapes(),
    Float16BehindDequantize(),
    TfliteLayoutTransposes(),
    UnfusedActivation(),
    TfliteUnsignedWeights(),
    TflitePerTensorDepthwise(),
    TfliteSharedConcatScale(),
    TfliteFloatIsland(),
)
