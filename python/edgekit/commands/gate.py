"""`edgekit gate`: does a bundle keep what was promised, compared with another one or with the float model?

Exit codes, for pipelines: 0 every promise is kept; 1 one is broken; 2 wrong usage, or something is missing or damaged;
3 none is broken, and one cannot be decided with so few samples.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edgekit.commands.console import err, out, print_json
from edgekit.commands.options import Preprocess, Threads
from edgekit.targets.errors import EdgekitError

BAD_INPUT = 2


def gate(
    bundle: Annotated[
        Path, typer.Argument(help="The bundle, or an .onnx, .tflite or .plan, that is to pass.")
    ],
    baseline: Annotated[
        Path, typer.Option(help="What it is compared with: a bundle, or the float model.")
    ],
    samples: Annotated[
        Path | None,
        typer.Option(help="A folder of pictures, in one for each class, or an .npz."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Names of the pictures' classes, one a line (default: the bundle's); of an .npz the class of each "
            "sample, an .npy or a number a line. Without: the share of answers that changed."
        ),
    ] = None,
    evaluate: Annotated[
        str | None,
        typer.Option(
            help="module:function in place of --samples: takes a session, returns a figure or a score for each sample."
        ),
    ] = None,
    preprocess: Preprocess = None,
    max_drop: Annotated[
        float | None, typer.Option(help="How much of the figure may be lost.")
    ] = None,
    max_ms: Annotated[
        float | None, typer.Option(help="The most milliseconds a run may take, by the median.")
    ] = None,
    max_mb: Annotated[
        float | None, typer.Option(help="The most memory, in MB, the native form may hold.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="That promises have to hold with.")] = 0.95,
    no_confidence: Annotated[
        bool, typer.Option("--no-confidence", help="Compare figures as they are.")
    ] = False,
    threads: Threads = 1,
    seconds: Annotated[
        float, typer.Option(min=0, help="How long to time both here, in turns; 0: not.")
    ] = 3.0,
    record: Annotated[
        Path | None,
        typer.Option(help="What `bench BUNDLE --on DEVICE --json` printed, for times and memory."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="A file to write as JSON; - prints it.")
    ] = None,
    sarif: Annotated[
        Path | None, typer.Option(help="A file to write as SARIF 2.1.0, for code scanning.")
    ] = None,
) -> None:
    """Let a bundle pass if it keeps what was promised: exit code 0 kept, 1 broken, 2 a mistake, 3 too few samples."""
    from edgekit.data import parse_preprocessing
    from edgekit.pipeline.find_measure import choose_measure
    from edgekit.pipeline.gate import gate as run_gate
    from edgekit.pipeline.sarif import write_sarif

    try:
        chosen = choose_measure(
            bundle,
            evaluate=evaluate,
            samples=samples,
            labels=labels,
            preprocessing=parse_preprocessing(preprocess) if preprocess else None,
        )
        with err.status(f"comparing {bundle} with {baseline}"):
            result = run_gate(
                bundle,
                baseline=baseline,
                evaluate=chosen.measure,
                samples=chosen.samples,
                preprocessing=chosen.preprocessing,
                max_drop=max_drop,
                max_ms=max_ms,
                max_mb=max_mb,
                confidence=None if no_confidence else confidence,
                threads=threads,
                seconds=seconds,
                record=record,
            )
        facts = result.to_dict()
        # Before files are written: what took long to find is told even where a file cannot be.
        if json_file is not None and str(json_file) == "-":
            print_json(facts)
        else:
            out.print(str(result), markup=False, highlight=False, soft_wrap=True)
        if sarif is not None:
            write_sarif(sarif, [facts])
        if json_file is not None and str(json_file) != "-":
            json_file.parent.mkdir(parents=True, exist_ok=True)
            json_file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    except EdgekitError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    raise typer.Exit(result.exit_code)


def _refuse(words: str) -> None:
    err.print(f"error: {words}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(BAD_INPUT)
