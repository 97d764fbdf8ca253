"""Says what an engine makes of a quantized file, node by node."""

from edgekit.converters.fusion.engines import report_fusion
from edgekit.converters.fusion.report import FUSIBLE, FusionReport, NodeFusion

__all__ = ["FUSIBLE", "FusionReport", "NodeFusion", "report_fusion"]
