"""`edgekit split`: one network over two devices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.commands.console import Json, bars, out, print_json


def split(
    model: Annotated[Path, typer.Argument(help="An .onnx or .tflite file.")],
    between: Annotated[
        tuple[str, str],
        typer.Option(
            help="Both devices: who has the inputs, and who helps; names as `deploy --target`."
        ),
    ],
    link: Annotated[str, typer.Option(help="Speed of the link, such as 10Mbit/s.")],
    latency: Annotated[str, typer.Option(help="Its round trip, such as 5ms.")] = "0ms",
    calibration: Annotated[
        Path | None, typer.Option(help="Folder of pictures, or an .npz file of inputs.")
    ] = None,
    preprocess: Annotated[
        list[str] | None, typer.Option(help="As of `deploy`; may be given often.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")] = Path(
        "split"
    ),
    at: Annotated[
        str | None, typer.Option(help="Cut behind this operator, not where it costs least.")
    ] = None,
    most_tensors: Annotated[int, typer.Option(min=1, help="How many tensors may cross.")] = 4,
    precision: Annotated[str, typer.Option(help="auto or int8, as of `deploy`.")] = "auto",
    as_json: Json = False,
) -> None:
    """Quantizes a network whole, cuts it where the link costs least, and writes a bundle for each device."""
    from edgekit.data import parse_preprocessing
    from edgekit.partition.split import split as split_network
    from edgekit.report import make_table

    with bars() as progress:
        result = split_network(
            model,
            between=between,
            link=link,
            latency=latency,
            output=output,
            at=at,
            most_tensors=most_tensors,
            calibration=calibration,
            preprocessing=parse_preprocessing(preprocess) if preprocess else None,
            precision=precision,
            progress=progress,
        )
    if as_json:
        print_json(result.summary.to_dict())
        return
    summary = result.summary
    names = [f"{side.profile.name} ({side.how})" for side in summary.sides]
    table = make_table("", "cut", "tensors", "kB sent", names[0], "link", names[1], "total ms")
    for option in summary.options:
        cut = option.cut
        table.add_row(
            ("* " if option == summary.chosen else "") + option.name,
            str(len(cut.crossing)),
            f"{cut.sent_bytes / 1000:.1f}",
            *(f"{us / 1000:.3f}" for us in (cut.head_us, cut.link_us, cut.tail_us, cut.total_us)),
        )
    out.print(table)
    for note in summary.notes:
        out.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    out.print(f"wrote {result.head.path} and {result.tail.path}", highlight=False, soft_wrap=True)
