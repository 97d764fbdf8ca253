"""What a deployment is and what it was measured to be; every figure says how it was come by.

`Account` holds it, a `Report` shows it: `terminal` there, `page` as one file of HTML. `read` reads its JSON.
"""

from edgekit.report.account import SCHEMA
from edgekit.report.asked import NOT_MEASURED, Asked, Front, Point
from edgekit.report.evaluation import ChangedSample, Compared, Evaluation
from edgekit.report.figures import Accuracy, Latency, Memory, Size
from edgekit.report.layers import Fusion, Layer, Precision, Tflite
from edgekit.report.read import parse_report, read_report
from edgekit.report.report import Report
from edgekit.report.tables import make_latency_table, make_table

__all__ = [
    "NOT_MEASURED",
    "SCHEMA",
    "Accuracy",
    "Asked",
    "ChangedSample",
    "Compared",
    "Evaluation",
    "Front",
    "Fusion",
    "Latency",
    "Layer",
    "Memory",
    "Point",
    "Precision",
    "Report",
    "Size",
    "Tflite",
    "make_latency_table",
    "make_table",
    "parse_report",
    "read_report",
]
