"""What may be promised of a network from what was measured on samples: bounds that hold with a stated confidence.

`promise_drop` tests how much of a figure is lost, on pairs: both networks answer the same samples. `promise_latency`
bounds a median; `promise_size` compares what is known exactly. Each returns a record whose `verdict` is kept, broken
or undecided, and `accept_in_order` tries several plans without spending the confidence anew on each.
"""

from edgekit.promise.drop import DropPromise, promise_drop
from edgekit.promise.latency import LatencyPromise, bound_median, compare_latency, promise_latency
from edgekit.promise.order import Accepted, accept_in_order
from edgekit.promise.paired import Discordant
from edgekit.promise.scored import Scored, Scores, read_scores
from edgekit.promise.size import SizePromise, promise_size
from edgekit.promise.verdict import CONFIDENCE, Verdict, check_confidence

__all__ = [
    "CONFIDENCE",
    "Accepted",
    "Discordant",
    "DropPromise",
    "LatencyPromise",
    "Scored",
    "Scores",
    "SizePromise",
    "Verdict",
    "accept_in_order",
    "bound_median",
    "check_confidence",
    "compare_latency",
    "promise_drop",
    "promise_latency",
    "promise_size",
    "read_scores",
]
