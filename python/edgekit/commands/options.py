"""Options that several commands have."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Ranges(StrEnum):
    """Ways to choose ranges from a calibration."""

    auto = "auto"
    minmax = "minmax"
    percentile = "percentile"
    mse = "mse"
    entropy = "entropy"


ChosenRanges = Annotated[Ranges, typer.Option(help="How ranges come from the calibration.")]
Checkpoint = Annotated[
    Path | None, typer.Option(help="A file that calibration continues from and saves to.")
]
Constants = Annotated[
    list[str] | None,
    typer.Option(help="NAME=16000: an input that is always the same; may be given often."),
]
Evaluate = Annotated[
    Path | None,
    typer.Option(help="Pictures to measure by, in a folder for each class of --labels."),
]
Preprocess = Annotated[
    list[str] | None,
    typer.Option(
        help="How pictures become inputs, KEY=VALUE, may be given often: size=224 (or 224x320), crop=7/8, "
        "mean=127 (or 124,117,104), scale=1/128, layout=NCHW|NHWC, channels=RGB|BGR|L, resample=bicubic|bilinear."
    ),
]
Threads = Annotated[int, typer.Option(min=1, help="Threads that a run may use.")]
Batch = Annotated[int, typer.Option(min=1, help="What an open first dimension becomes.")]
