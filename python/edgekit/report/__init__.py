"""What a deployment is and what it was measured to be; every figure says how it was come by.

`Report` holds it, `terminal` shows it there, `page` makes one file of HTML of it, `read` reads its JSON.
"""

from edgekit.report.account import SCHEMA, Report
from edgekit.report.asked import NOT_MEASURED, Asked, Front, Point
from edgekit.report.evaluation import ChangedSample, Compared, Evaluation
from edgekit.report.figures import Accuracy, Latency, Memory, Size
from edgekit.report.layers import Fusion, Layer, Precision, Tflite
from edgekit.report.read import parse_report, read_report
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
