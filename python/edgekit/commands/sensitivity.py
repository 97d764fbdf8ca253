"""`edgekit sensitivity`: what each layer costs the answers in each number format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.commands.console import Json, bars, out, print_json
from edgekit.commands.evaluation import read_evaluation
from edgekit.commands.options import (
    Batch,
    Checkpoint,
    ChosenRanges,
    Constants,
    Evaluate,
    Preprocess,
    Ranges,
)


def sensitivity(
    model: Annotated[Path, typer.Argument(help="An .onnx or .tflite file.")],
    calibration: Annotated[
        Path,
        typer.Option(help="A folder of pictures or an .npz: inputs to calibrate with and run."),
    ],
    preprocess: Preprocess = None,
    checkpoint: Checkpoint = None,
    number_format: Annotated[
        list[str] | None,
        typer.Option(
            help="A number format to try, int8-rows say; may be given often; all by default."
        ),
    ] = None,
    ranges: ChosenRanges = Ranges.auto,
    evaluate: Evaluate = None,
    labels: Annotated[
        Path | None, typer.Option(help="Names of the classes, one a line; for --evaluate.")
    ] = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="NAME=1x3x224x224: the size of an input.")
    ] = None,
    constant: Constants = None,
    batch: Batch = 1,
    cache: Annotated[
        bool, typer.Option(help="Take what was measured before from the user's cache.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Measure what each layer costs the answers in each number format, one layer changed at a time."""
    from edgekit.converters.can_hold import name_format
    from edgekit.converters.fix_shapes import parse_sizes
    from edgekit.converters.fold_branches import parse_constant
    from edgekit.converters.sensitivity import CHANGES
    from edgekit.data import parse_preprocessing
    from edgekit.sensitivity import sense

    preprocessing = parse_preprocessing(preprocess) if preprocess else None
    measure = read_evaluation(evaluate, labels, preprocessing)
    with bars() as progress:
        found = sense(
            model,
            calibration=calibration,
            preprocessing=preprocessing,
            checkpoint=checkpoint,
            ranges=ranges.value,
            formats=[name_format(name) for name in number_format] if number_format else CHANGES,
            evaluate=measure,
            shapes=parse_sizes(shape or []),
            constants=dict(parse_constant(item) for item in constant or []),
            batch=batch,
            cache=cache,
            progress=progress,
        )
    if as_json:
        print_json(found.to_dict())
    else:
        out.print(found)
