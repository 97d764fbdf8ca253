"""What `deploy` does so that int8 loses less: passes over the float graph, and biases that are corrected afterwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from edgekit.choosing.closest import Candidate, Reference, compare
from edgekit.choosing.goal import WANTED_SNR_DB
from edgekit.converters.calibrate import Calibration, RangeChoice, calibrate
from edgekit.converters.recover.cost import count_multiplications
from edgekit.converters.recover.recover import CORRECT_BIASES, correct, recover
from edgekit.converters.recover.report import PassEffect, RecoveryReport
from edgekit.data import Samples
from edgekit.forms import Recipe, write_forms
from edgekit.open_sizes import bind_shapes
from edgekit.progress import Progress
from edgekit.targets.errors import ModelError

# Multiplications of one sample up to which all passes are tried in some three seconds of one core.
_CHEAP = 1 << 27
# Noise of a hundredth of the answers' size, at which hardly any answer is another one.
_CLOSEST_DB = 40.0


def choose_enough(graph: ir.Model, samples: Samples, recipe: Recipe, promised: bool) -> float:
    """Returns the signal to noise ratio of int8, in decibels, from which on "auto" tries no pass.

    Where trying takes seconds that is more than elsewhere, and infinite where answers are promised. Passes are tried
    in int8 alone: what is close enough is left as it is where layers were given other formats.

    Args:
        graph: The float model, simplified.
        samples: Whose shapes it has.
        recipe: What is built.
        promised: Whether answers are promised.
    """
    if promised:
        return math.inf
    if not len(samples) or recipe.quantize != "int8" or recipe.layer_formats:
        return WANTED_SNR_DB
    bound = bind_shapes(graph, [samples[0]])
    return _CLOSEST_DB if count_multiplications(bound) <= _CHEAP else WANTED_SNR_DB


def recover_graph(
    graph: ir.Model,
    learned: Calibration,
    samples: Samples,
    recipe: Recipe,
    passes: str | Sequence[str],
    tell: Progress,
    enough_db: float = math.inf,
    choice: RangeChoice | None = None,
) -> tuple[ir.Model, Calibration, RecoveryReport]:
    """Returns the float graph that is quantized, its calibration, and what was done.

    Args:
        graph: Simplified.
        learned: Its calibration.
        samples: To try passes with, and to calibrate anew.
        recipe: What is built; what does not have int8 activations, and several sizes, stay as they are.
        passes: As for `deploy`.
        tell: Is told of each pass.
        enough_db: The signal to noise ratio of int8 from which on "auto" tries nothing.
        choice: How ranges are chosen, None where that is left open.

    Raises:
        ModelError: ONNX Runtime cannot run the graph.
    """
    if not _can_recover(recipe) or recipe.sizes:
        return graph, learned, RecoveryReport()
    recovered = recover(
        graph,
        samples,
        passes=passes,
        choice=choice,
        enough_db=enough_db,
        progress=lambda done, count: tell("recovering accuracy", done, count),
    )
    if recovered.model is graph:
        return graph, learned, recovered.report
    again = calibrate(
        recovered.model,
        samples,
        progress=lambda done, count: tell("calibrating anew", done, count),
    )
    return recovered.model, again, recovered.report


def correct_forms(
    best: Candidate,
    graph: ir.Model,
    samples: Samples,
    recipe: Recipe,
    reference: Reference,
    passes: Sequence[str],
    folder: Path,
    *,
    keep_always: bool,
    enough_db: float = math.inf,
) -> tuple[Candidate, tuple[PassEffect, ...]]:
    """Returns ``best`` with corrected biases, where that helps, and what was done.

    Args:
        best: What was chosen.
        graph: The float graph that it was quantized from.
        samples: Half of some of them serve the correction, half the comparison.
        recipe: What is built.
        reference: What float answers.
        passes: Names of the passes that are wanted.
        folder: Is made.
        keep_always: Whether the correction is taken in any case.
        enough_db: The signal to noise ratio of ``best`` from which on it is left as it is, unless ``keep_always``.

    Raises:
        ModelError: A form cannot hold a node.
    """
    if CORRECT_BIASES not in passes or not _can_recover(recipe) or recipe.sizes:
        return best, ()
    if best.snr_db >= enough_db and not keep_always:
        return best, ()
    try:
        corrected, effect = correct(graph, best.forms.written, samples, keep_always=keep_always)
    except ModelError as error:
        note = f"biases were not corrected: {error}"
        return best, (PassEffect(CORRECT_BIASES, False, 0.0, 0.0, (), (note,)),)
    if corrected is best.forms.written:
        return best, (effect,)
    forms = write_forms(best.forms.quantized, corrected, best.forms.ranges, recipe, folder)
    candidate = compare(forms, reference)
    if candidate.distance > best.distance and not keep_always:
        return best, (replace(effect, is_kept=False),)
    return candidate, (effect,)


def _can_recover(recipe: Recipe) -> bool:
    return recipe.chooses_layers
