"""The rules for ONNX files, in the order in which they are checked and fixed: causes before what follows from them."""

from __future__ import annotations

from edgekit.converters.doctor.onnx_rules.clamp_before_quantize import ClampBeforeQuantize
from edgekit.converters.doctor.onnx_rules.conv_integer import ConvInteger
from edgekit.converters.doctor.onnx_rules.does_not_load import DoesNotLoad
from edgekit.converters.doctor.onnx_rules.float_island import FloatIsland
from edgekit.converters.doctor.onnx_rules.int8_activations import Int8Activations
from edgekit.converters.doctor.onnx_rules.layout_transposes import LayoutTransposes
from edgekit.converters.doctor.onnx_rules.mean_over_picture import MeanOverPicture
from edgekit.converters.doctor.onnx_rules.missing_shapes import MissingShapes
from edgekit.converters.doctor.onnx_rules.per_tensor_depthwise import PerTensorDepthwise
from edgekit.converters.doctor.onnx_rules.range_mismatch import RangeMismatch
from edgekit.converters.doctor.onnx_rules.saturation import Saturation
from edgekit.converters.doctor.onnx_rules.shared_concat_scale import SharedConcatScale
from edgekit.converters.doctor.onnx_rules.slower_than_float import SlowerThanFloat
from edgekit.converters.doctor.onnx_rules.unsigned_weights import UnsignedWeights
from edgekit.converters.doctor.onnx_rules.weights_as_inputs import WeightsAsInputs
from edgekit.converters.doctor.onnx_rules.zeros_computed import ZerosComputed
from edgekit.converters.doctor.onnx_subject import OnnxSubject
from edgekit.converters.doctor.rule import Rule

RULES: tuple[Rule[OnnxSubject], ...] = (
    ConvInteger(),
    DoesNotLoad(),
    WeightsAsInputs(),
    MissingShapes(),
    LayoutTransposes(),
    ClampBeforeQuantize(),
    MeanOverPicture(),
    Int8Activations(),
    UnsignedWeights(),
    Saturation(),
    PerTensorDepthwise(),
    SharedConcatScale(),
    RangeMismatch(),
    FloatIsland(),
    ZerosComputed(),
    SlowerThanFloat(),
)
