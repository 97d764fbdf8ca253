"""Streaming calibration: one pass over the samples, one sketch for every way to choose a range."""

from edgekit.converters.calibrate.calibration import Calibration
from edgekit.converters.calibrate.channels import ChannelRange
from edgekit.converters.calibrate.moments import ChannelMoments
from edgekit.converters.calibrate.observe import calibrate, observed_values
from edgekit.converters.calibrate.ranges import METHODS, Range, RangeChoice, choose_range
from edgekit.converters.calibrate.sketch import TensorSketch

__all__ = [
    "METHODS",
    "Calibration",
    "ChannelMoments",
    "ChannelRange",
    "Range",
    "RangeChoice",
    "TensorSketch",
    "calibrate",
    "choose_range",
    "observed_values",
]
