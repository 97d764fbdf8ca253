"""Makes the forms of a network that is pruned as was asked for, or as pays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from edgekit.choosing.make_forms import Made, Wanted, make_forms
from edgekit.converters.calibrate import Calibration
from edgekit.forms import Recipe
from edgekit.pruning.choose import choose_pruning, find_promised, list_recipes
from edgekit.pruning.join import join_fronts, share_search
from edgekit.pruning.prune import prune_graph
from edgekit.pruning.recipe import Pruning
from edgekit.report.pruning import PruningAccount
from edgekit.targets.errors import PromiseError


def make_pruned(
    graph: ir.Model, learned: Calibration, recipe: Recipe, wanted: Wanted, folder: Path
) -> tuple[Made, PruningAccount | None]:
    """Returns forms, and what was pruned; None where that was not asked for.

    With "auto" the promises decide what may be pruned where there are any; without, answers have to stay above 20 dB.
    Number formats are searched for the network as it is and for each recipe, as one search (`share_search`), and their
    plans are on one front.
    Where the network as it is cannot keep them, the mildest recipe is taken that does.

    Args:
        graph: Simplified.
        learned: Its calibration.
        recipe: What is built.
        wanted: What forms are made by.
        folder: Where forms are tried.

    Raises:
        EdgekitError: It cannot be pruned so, or forms cannot be made.
    """
    pruning = wanted.request.pruning
    if not pruning:
        return make_forms(graph, learned, recipe, wanted, folder), None
    if pruning.auto:
        wanted = share_search(wanted, 1 + sum(map(len, list_recipes(recipe))))
    pruned: dict[str, Made] = {}

    def make(one: Pruning) -> tuple[Made, PruningAccount]:
        small, again, account = prune_graph(
            graph, learned, wanted.samples, recipe, one, wanted.tell
        )
        home = folder / f"pruned {one}".replace("/", "-").replace(" ", "-").replace("%", "")
        made = make_forms(small, again, recipe, wanted, home)
        pruned[str(one)] = made
        return made, account

    if not pruning.auto:
        return make(pruning)
    try:
        dense = make_forms(graph, learned, recipe, wanted, folder)
    except PromiseError as error:
        return find_promised(error, recipe, make)
    sample = wanted.reference.samples[0]
    chosen = choose_pruning(
        dense,
        recipe,
        sample,
        lambda made: made.found is not None or wanted.goal.is_met(made.best),
        make,
        wanted.tell,
    )
    account = chosen.account
    if wanted.promises.max_drop is not None and wanted.promises.confidence is not None:
        told = f"each network's plans were tested with {100 * wanted.promises.confidence:.4g} % confidence"
        account = replace(account, tried=[*account.tried, told])
    return join_fronts(dense, pruned, chosen.shares, chosen.made), account
