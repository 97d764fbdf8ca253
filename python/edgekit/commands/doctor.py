"""`edgekit doctor`: the faults of a model file, and what to do about them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.commands.console import Json, err, out, print_json
from edgekit.commands.options import Preprocess
from edgekit.targets.errors import EdgekitError

# Exit code where there are faults.
FOUND = 1


def doctor(
    path: Annotated[
        Path,
        typer.Argument(help="An .onnx or .tflite, ours or not, a folder of them, or a bundle."),
    ],
    fix: Annotated[
        Path | None, typer.Option(help="A file to write, with what can be fixed fixed.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="--fix may name the file itself.")
    ] = False,
    target: Annotated[str, typer.Option(help="A board, or your own .toml profile.")] = "host",
    calibration: Annotated[
        Path | None,
        typer.Option(help="A folder of pictures or an .npz; random inputs if left out."),
    ] = None,
    preprocess: Preprocess = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="NAME=1,3,640,640 where sizes are open.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="How long to time each fault.")] = 0.5,
    as_json: Json = False,
) -> None:
    """Name the faults of a model file, what each costs and what to do; exit code 1 if there are any."""
    from dataclasses import replace

    from edgekit.bundles.archive import unpacked
    from edgekit.converters.fix_shapes import parse_shape
    from edgekit.data import parse_preprocessing
    from edgekit.doctor.examine import examine, list_examinable
    from edgekit.doctor.present import print_diagnosis

    with unpacked(path) as place:
        files = list_examinable(place)
        if fix is not None and place.is_dir():
            raise EdgekitError(f"{path}: --fix writes one file: name the one in the folder to fix")
        diagnoses = []
        for file in files:
            shown = path / file.name if place.is_dir() else path
            with err.status(f"examining {shown}"):
                diagnosis = examine(
                    file,
                    target=target,
                    calibration=calibration,
                    preprocessing=parse_preprocessing(preprocess) if preprocess else None,
                    shapes=dict(parse_shape(item) for item in shape or []),
                    fix=fix,
                    overwrite=overwrite,
                    seconds=seconds,
                )
            diagnoses.append(replace(diagnosis, path=shown))
            if not as_json:
                print_diagnosis(out, diagnoses[-1])
        several = place.is_dir()
    if as_json:
        facts = [diagnosis.to_dict() for diagnosis in diagnoses]
        print_json(facts if several else facts[0])
    if not all(diagnosis.is_healthy for diagnosis in diagnoses):
        raise typer.Exit(FOUND)
