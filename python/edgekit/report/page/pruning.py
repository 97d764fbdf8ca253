"""The section of the page that says what was pruned."""

from __future__ import annotations

from edgekit.report.page.markup import Column, Html, element, make_section, make_table
from edgekit.report.pruning import PruningAccount, spell_pruned

_COLUMNS = (
    Column("layer"),
    Column("zeros"),
    *(
        Column(title, True)
        for title in ("left", "multiplications", "bytes", "break-even", "faster")
    ),
)
_DENSE = (Column("layer"), Column("why"))


def make_pruning(pruning: PruningAccount) -> Html:
    """Returns what is left of each pruned layer, and why others stayed as they were."""
    rows = [spell_pruned(layer) for layer in pruning.layers]
    parts = [element("p", pruning.describe())]
    if rows:
        parts.append(make_table("Pruned layers", _COLUMNS, rows))
    if pruning.dense:
        left = [[name, reason] for name, reason in pruning.dense.items()]
        parts.append(make_table("Layers that stayed dense", _DENSE, left))
    return make_section("pruning", "What was pruned", *parts)
