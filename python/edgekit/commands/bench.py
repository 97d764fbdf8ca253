"""`edgekit bench`: networks timed in turns, here, against every runtime, or on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.commands.bench_on import bench_on
from edgekit.commands.console import Json, bars, err, out, print_json
from edgekit.commands.options import Batch, Preprocess


def bench(
    paths: Annotated[
        list[Path],
        typer.Argument(help=".onnx, .tflite, .plan or bundles; ratios are to the first."),
    ],
    threads: Annotated[list[int] | None, typer.Option(min=1, help="May be given twice.")] = None,
    batch: Batch = 1,
    seconds: Annotated[float, typer.Option(min=0, help="How long for each threads.")] = 3.0,
    peers: Annotated[
        bool, typer.Option("--peers", help="One .onnx, deployed, against every runtime installed.")
    ] = False,
    calibration: Annotated[
        Path | None, typer.Option(help="With --peers: a folder of pictures or an .npz.")
    ] = None,
    preprocess: Preprocess = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="With --peers: NAME=1,3,640,640 where sizes are open.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="With --peers: an SVG to write.")] = None,
    on: Annotated[
        str | None,
        typer.Option(
            help="One bundle on a device: ssh://[user@]host[:port][/root] or dir:///ROOT."
        ),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            help="With --on: your .toml profile, to keep the record by and fit its speed."
        ),
    ] = None,
    sign_with: Annotated[
        Path | None, typer.Option(help="With --store: the secret key that signs the record.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Time networks against each other on this machine, in turns, or a bundle on a device (--on)."""
    from edgekit.benchmark import benchmark
    from edgekit.report import make_latency_table
    from edgekit.timing import describe_machine

    if on is not None:
        if len(paths) != 1 or batch != 1 or peers or len(threads or [1]) != 1:
            raise typer.BadParameter("--on takes one bundle, a batch of 1 and one --threads")
        bench_on(paths[0], on, (threads or [1])[0], seconds, store, sign_with, as_json)
        return
    if store or sign_with:
        raise typer.BadParameter("--store and --sign-with go with --on")
    if peers:
        if len(paths) != 1 or batch != 1:
            raise typer.BadParameter("--peers takes one .onnx file and a batch of 1")
        _contend(paths[0], threads or [1], seconds, calibration, preprocess, shape, plot, as_json)
        return
    if calibration or preprocess or shape or plot:
        raise typer.BadParameter("--calibration, --preprocess, --shape and --plot go with --peers")
    files = {str(path): path for path in paths}
    with err.status("measuring"):
        latencies = benchmark(files, batch=batch, threads=threads or [1], seconds=seconds)
    machine = describe_machine()
    if as_json:
        rows = [latency.to_dict() for latency in latencies]
        print_json({"machine": machine.to_dict(), "batch": batch, "latencies": rows})
    else:
        out.print(make_latency_table(latencies, batch))
        out.print(f"measured on {machine}", highlight=False)


def _contend(
    model: Path,
    threads: list[int],
    seconds: float,
    calibration: Path | None,
    preprocess: list[str] | None,
    shape: list[str] | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    from edgekit.converters.fix_shapes import parse_shape
    from edgekit.data import parse_preprocessing
    from edgekit.peers.bring import contend
    from edgekit.peers.plot import write_plot
    from edgekit.peers.result import make_record, print_contest

    if calibration is None:
        err.print(
            "NOTE: without --calibration everyone is given random numbers: the times are real, the accuracy is not",
            markup=False,
            soft_wrap=True,
        )
    with bars() as progress:
        contest = contend(
            model,
            calibration=calibration,
            preprocessing=parse_preprocessing(preprocess) if preprocess else None,
            shapes=dict(parse_shape(item) for item in shape or []),
            threads=threads,
            seconds=seconds,
            progress=progress,
        )
    record = make_record([contest])
    if as_json:
        print_json(record)
    else:
        print_contest(out, contest)
        out.print(record["measured_on"], markup=False, highlight=False)
    if plot is not None:
        write_plot(plot, [contest], threads, record["measured_on"])
