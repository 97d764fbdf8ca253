"""`edgekit deploy`: from a model to a bundle, with a report of what that did."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from edgekit.commands.console import Json, bars, out, print_json
from edgekit.commands.evaluation import read_evaluation
from edgekit.commands.keys import SignWith, ask_secret_key
from edgekit.commands.options import (
    Batch,
    Checkpoint,
    ChosenRanges,
    Constants,
    Evaluate,
    Preprocess,
    Ranges,
    Threads,
)
from edgekit.commands.report import PAGE, TABLE


class Format(StrEnum):
    """Forms that `deploy` writes."""

    native = "native"
    onnx = "onnx"
    tflite = "tflite"


class OnnxStyle(StrEnum):
    """Engines that the ONNX form is written for."""

    ort_x86 = "ort-x86"
    ort_arm = "ort-arm"
    ort_x86_qlinear = "ort-x86-qlinear"
    ort_arm_qlinear = "ort-arm-qlinear"
    ort_uint16 = "ort-uint16"
    ort_int16 = "ort-int16"
    ort_int4 = "ort-int4"
    openvino = "openvino"
    tensorrt = "tensorrt"
    tensorrt_float = "tensorrt-float"


class Precision(StrEnum):
    """Of the layers of the native form."""

    auto = "auto"
    int8 = "int8"


class Quantize(StrEnum):
    """Where scales come from, or what the TFLite form computes in."""

    auto = "auto"
    int8 = "int8"
    float32 = "float32"
    float16 = "float16"
    int4 = "int4"
    parts = "12x12"
    input_parts = "12x8"
    dynamic = "dynamic"
    wide = "16x8"


class Rounding(StrEnum):
    """What weights are rounded by."""

    auto = "auto"
    moments = "moments"
    hessian = "hessian"


def deploy(
    model: Annotated[Path, typer.Argument(help="The model, an .onnx or a .tflite file.")],
    calibration: Annotated[Path, typer.Option(help="A folder of pictures or an .npz.")],
    target: Annotated[str, typer.Option(help="A board, or your own .toml profile.")] = "host",
    format: Annotated[
        list[Format] | None, typer.Option(help="May be given twice; default: the board's.")
    ] = None,
    onnx_style: Annotated[
        OnnxStyle | None, typer.Option(help="The ONNX form's engine; default: the board's.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")] = Path(
        "dist"
    ),
    quantize: Annotated[
        Quantize,
        typer.Option(
            help="auto: a quantized model keeps its own scales; int8: calibrate it anew. For tflite alone: float32, "
            "float16 (weights), dynamic (int8 weights), 16x8 (int16 activations)."
        ),
    ] = Quantize.auto,
    precision: Annotated[
        Precision,
        typer.Option(
            help="auto: int8 where it is not slower and the answers allow it; int8: wherever it can be."
        ),
    ] = Precision.auto,
    format_of: Annotated[
        list[str] | None,
        typer.Option(
            help="NODE=FORMAT: what a layer is computed in, float32 or int8-rows, say; may be given often."
        ),
    ] = None,
    ranges: ChosenRanges = Ranges.auto,
    rounding: Annotated[
        Rounding,
        typer.Option(help="What weights are rounded by; hessian: how their inputs vary together."),
    ] = Rounding.auto,
    recover: Annotated[
        str,
        typer.Option(
            help="What is done so that int8 loses less: auto, none, or passes by name, as equalize,align.",
            metavar="auto|none|PASS,...",
        ),
    ] = "auto",
    prune: Annotated[
        list[str] | None,
        typer.Option(
            help="none, auto, or KEY=VALUE, may be given often: channels=0.5 (of the multiplications stay), 4x32=0.5 "
            "(of the weights are 0, in blocks of 4 by 32), NODE=4x32:0.75.",
            metavar="none|auto|KEY=VALUE",
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Names of classes, one a line, for applications.")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=1,3,640,640: fixes an input's size; the same input again: a further size."
        ),
    ] = None,
    constant: Constants = None,
    state: Annotated[
        list[str] | None,
        typer.Option(help="INPUT=OUTPUT: what a run gives is what the next one takes."),
    ] = None,
    batch: Batch = 1,
    threads: Threads = 1,
    tune: Annotated[
        bool, typer.Option("--tune", help="Choose kernels by measuring; for this machine alone.")
    ] = False,
    checkpoint: Checkpoint = None,
    preprocess: Preprocess = None,
    evaluate: Evaluate = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="How much of the share that is right may be lost; without --evaluate, of all answers."
        ),
    ] = None,
    release: Annotated[int, typer.Option(min=1, help="Number of the bundle's release.")] = 1,
    max_ms: Annotated[
        float | None, typer.Option(help="The most milliseconds a run may take on the board.")
    ] = None,
    max_mb: Annotated[
        float | None, typer.Option(help="The most memory, in MB, the program may hold there.")
    ] = None,
    sign_with: SignWith = None,
    model_license: Annotated[
        str | None, typer.Option(help="The model's licence, an SPDX id or words.")
    ] = None,
    slim: Annotated[
        bool, typer.Option("--slim", help="A runner with this plan's kernels and operators alone.")
    ] = False,
    library: Annotated[
        bool, typer.Option("--library", help="Put libedgekit and its header into the bundle.")
    ] = False,
    confidence: Annotated[
        float, typer.Option(help="That --max-drop and --max-ms are kept with.")
    ] = 0.95,
    trials: Annotated[
        int, typer.Option(min=0, help="Plans that a study tries beyond the walk; needs Optuna.")
    ] = 0,
    study: Annotated[
        str | None,
        typer.Option(help="A journal file or a database's URL that keeps the study."),
    ] = None,
    report: Annotated[
        list[Path] | None,
        typer.Option(help="Write the report: a page (.html) or JSON (.json); may be given twice."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Quantize a model, pack it for a board, and report what that did."""
    from edgekit.converters.can_hold import parse_format
    from edgekit.converters.fix_shapes import parse_sizes
    from edgekit.converters.fold_branches import parse_constant
    from edgekit.data import parse_preprocessing
    from edgekit.deployment import deploy as run_deploy
    from edgekit.pruning.recipe import parse_pruning
    from edgekit.states import parse_state

    for path in report or []:
        if path.suffix.lower() not in (PAGE, TABLE):
            raise typer.BadParameter(
                f"--report takes a name that ends in {PAGE} or {TABLE}: {path}"
            )
    preprocessing = parse_preprocessing(preprocess) if preprocess else None
    measure = read_evaluation(evaluate, labels, preprocessing)
    key = ask_secret_key(sign_with) if sign_with else None
    with bars() as progress:
        deployment = run_deploy(
            model,
            target=target,
            calibration=calibration,
            preprocessing=preprocessing,
            checkpoint=checkpoint,
            quantize=quantize.value,
            precision=precision.value,
            formats=dict(parse_format(item) for item in format_of or []),
            ranges=ranges.value,
            rounding=rounding.value,
            recover=recover if recover in ("auto", "none") else recover.split(","),
            prune=parse_pruning(prune or []),
            format=[item.value for item in format] if format else None,
            onnx_style=onnx_style.value if onnx_style else None,
            labels=labels,
            output=output,
            shapes=parse_sizes(shape or []),
            constants=dict(parse_constant(item) for item in constant or []),
            states=dict(parse_state(item) for item in state or []),
            batch=batch,
            threads=threads,
            tune=tune,
            evaluate=measure,
            max_drop=max_drop,
            release=release,
            max_ms=max_ms,
            max_mb=max_mb,
            sign_with=key,
            model_license=model_license,
            slim=slim,
            library=library,
            confidence=confidence,
            trials=trials,
            study=study,
            progress=progress,
        )
    for path in report or []:
        if path.suffix.lower() == PAGE:
            deployment.report.save_html(path)
        else:
            deployment.report.save_json(path)
    if as_json:
        print_json({"path": str(deployment.path), **deployment.report.to_dict()})
    else:
        out.print(deployment.report)
        if deployment.front is not None:
            out.print(str(deployment.front), highlight=False)
        out.print(f"written to {deployment.path}", highlight=False)
