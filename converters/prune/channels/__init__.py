"""Takes channels out of float graphs: which go together, which go first, and what makes up for them."""

from edgekit.converters.prune.channels.budget import Budget, parse_budget
from edgekit.converters.prune.channels.channels import Channels
from edgekit.converters.prune.channels.cut import cut, zero_readers
from edgekit.converters.prune.channels.find_channels import find_channels
from edgekit.converters.prune.channels.prune import IMPORTANCES, Pruned, prune_channels
from edgekit.converters.prune.channels.report import ChannelsReport, LayerCut

__all__ = [
    "IMPORTANCES",
    "Budget",
    "Channels",
    "ChannelsReport",
    "LayerCut",
    "Pruned",
    "cut",
    "find_channels",
    "parse_budget",
    "prune_channels",
    "zero_readers",
]
