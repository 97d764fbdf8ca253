"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Preprocess = Annotated[
    list[str] | None,
    typer.Option(
        help="How pictures become inputs, KEY=VALUE, may be given often: size=224 (or 224x320), crop=7/8, "
        "mean=127 (or 124,117,104), scale=1/128, layout=NCHW|NHWC, channels=RGB|BGR|L, resample=bicubic|bilinear."
    ),
]
Threads = Annotated[int, typer.Option(min=1, help="Threads that a run may use.")]
Batch = Annotated[int, typer.Option(min=1, help="What an open first dimension becomes.")]
