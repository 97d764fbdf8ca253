"""`edgekit distill`: repairs what pruning and rounding broke, by distillation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.commands.console import Json, bars, out, print_json
from edgekit.commands.options import Preprocess, Threads


def distill(
    model: Annotated[Path, typer.Argument(help="The float network: an .onnx or .tflite file.")],
    calibration: Annotated[
        Path,
        typer.Option(help="A folder of pictures or an .npz: inputs to learn from, without labels."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .onnx file to write.")] = Path(
        "distilled.onnx"
    ),
    student: Annotated[
        Path | None, typer.Option(help="A pruned copy of the network; its zeros stay.")
    ] = None,
    prune: Annotated[
        str | None,
        typer.Option(help="PATTERN=SHARE of zeros it gets meanwhile: 4x32=0.5, unstructured=0.8."),
    ] = None,
    spread: Annotated[
        bool,
        typer.Option(help="Spread the zeros over the layers by what they lose; else all alike."),
    ] = True,
    masks: Annotated[
        str, typer.Option(help="Zeros by the solver before training, or grown meanwhile.")
    ] = "auto",
    quantize: Annotated[str, typer.Option(help="int8, int4 or none.")] = "int8",
    ranges: Annotated[str, typer.Option(help="How ranges come from the calibration.")] = "minmax",
    steps: Annotated[int | None, typer.Option(min=1, help="Steps to train.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Times that each sample is seen.")] = None,
    minutes: Annotated[float | None, typer.Option(help="About how long to train.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples of a step.")] = 32,
    learning_rate: Annotated[
        float, typer.Option(help="How far a step may move weights, as a part of their size.")
    ] = 2e-3,
    features: Annotated[
        int, typer.Option(min=0, help="Inner values that are compared beside the outputs.")
    ] = 4,
    precision: Annotated[str, typer.Option(help="float32, or bfloat16 for products.")] = "float32",
    lora: Annotated[int, typer.Option(min=0, help="Rank of adapters of large matrices.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the order of samples.")] = 0,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Training continues from this file and saves to it.")
    ] = None,
    preprocess: Preprocess = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="NAME=1x3x224x224: the size of an input.")
    ] = None,
    constant: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE: an input that is always the same.")
    ] = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Train a compressed network to answer as its float network does, without labels (extra torch)."""
    import edgekit
    from edgekit.converters.fix_shapes import parse_sizes
    from edgekit.converters.fold_branches import parse_constant
    from edgekit.data import parse_preprocessing

    sizes = parse_sizes(shape or [])
    if len(sizes) > 1:
        raise typer.BadParameter("--shape: a network is trained at one size: give each input once")
    with bars() as progress:
        found = edgekit.distill(
            model,
            calibration=calibration,
            output=output,
            student=student,
            prune=None if prune is None else _parse_prune(prune),
            quantize=quantize,
            ranges=ranges,
            preprocessing=parse_preprocessing(preprocess) if preprocess else None,
            constants=dict(parse_constant(item) for item in constant or []),
            shapes=sizes[0],
            checkpoint=checkpoint,
            threads=threads,
            progress=progress,
            steps=steps,
            epochs=epochs,
            minutes=minutes,
            batch=batch,
            learning_rate=learning_rate,
            spread=spread,
            masks=masks,
            features=features,
            precision=precision,
            lora=lora,
            seed=seed,
        )
    if as_json:
        print_json(found.to_dict())
    else:
        out.print(found.describe(), markup=False, highlight=False, soft_wrap=True)


def _parse_prune(text: str) -> dict[str, float]:
    pattern, _, share = text.partition("=")
    try:
        return {pattern: float(share)}
    except ValueError as error:
        raise typer.BadParameter(f"--prune is PATTERN=SHARE, 4x32=0.5 say, not {text!r}") from error
