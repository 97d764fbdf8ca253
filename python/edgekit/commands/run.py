"""`edgekit run`: one run of a network on files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.commands.console import Json, print_facts, print_json
from edgekit.commands.options import Preprocess, Threads
from edgekit.targets.errors import EdgekitError

if TYPE_CHECKING:
    from edgekit.data import Preprocessing


def run(
    path: Annotated[Path, typer.Argument(help="An .onnx, a .tflite, a .plan or a bundle.")],
    input: Annotated[list[str], typer.Option(help="NAME=FILE or FILE: .npy, or a picture.")],
    output_dir: Annotated[
        Path | None, typer.Option(help="Where to write each output as .npy.")
    ] = None,
    pad: Annotated[
        float | None,
        typer.Option(help="What to fill smaller inputs up with, to the next size that there is."),
    ] = None,
    threads: Threads = 1,
    preprocess: Preprocess = None,
    as_json: Json = False,
) -> None:
    """Run a network once."""
    import numpy as np

    from edgekit.data import parse_preprocessing
    from edgekit.session import load

    session = load(path, threads=threads)
    preprocessing = parse_preprocessing(preprocess) if preprocess else session.preprocessing
    inputs = {}
    for item in input:
        name, _, file = item.rpartition("=")
        name = name or session.usage.input or session.inputs[0].name
        if name in inputs:
            raise EdgekitError(f"--input {item}: input '{name}' was given already")
        inputs[name] = _read_input(Path(file), preprocessing)
    outputs = session.run(inputs, pad=pad)
    facts: dict[str, Any] = {}
    for index, (name, array) in enumerate(outputs.items()):
        facts[name] = {"shape": list(array.shape), "dtype": array.dtype.name}
        if array.ndim and array.shape[-1] > 1 and array.size == array.shape[-1]:
            flat = array.reshape(-1)
            largest = np.argsort(-flat, kind="stable")[:5]
            labels = session.labels if index == 0 and len(session.labels) == flat.size else ()
            facts[name]["largest"] = {
                f"{i} {labels[i]}" if labels else str(i): float(flat[i]) for i in largest
            }
        if output_dir:
            output_dir.mkdir(parents=True, exist_ok=True)
            file_name = output_dir / f"{index}.npy"
            np.save(file_name, array)
            facts[name]["file"] = str(file_name)
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)


def _read_input(path: Path, preprocessing: Preprocessing | None) -> Any:
    from edgekit.bundles.golden import read_array
    from edgekit.data import IMAGE_SUFFIXES

    if not path.is_file():
        raise EdgekitError(f"{path}: no such file")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return read_array(path)
    if preprocessing is None:
        raise EdgekitError(
            f"{path}: say how the picture becomes an input: --preprocess size=... (see --help)"
        )
    return preprocessing.read(path)
