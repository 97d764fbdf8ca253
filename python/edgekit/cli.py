"""The command line.

Exit codes: 0 done; 1 a mistake in what was given, or something that this machine lacks, or `doctor` found faults (it
then prints them; a mistake prints nothing but a line that begins with "error: " on the error stream); 2 wrong usage;
3 `verify` found bytes that differ; 130 interrupted.
"""

from __future__ import annotations

import logging
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit import EdgekitError, __version__
from edgekit.commands import device, fleet, targets
from edgekit.commands.bench_on import bench_on
from edgekit.commands.build import build
from edgekit.commands.bundles import lock, pack, release, unpack
from edgekit.commands.console import Json, bars, err, out, print_facts, print_json
from edgekit.commands.delta import delta, patch
from edgekit.commands.flash import flash
from edgekit.commands.keys import SignWith, ask_secret_key
from edgekit.commands.serve import serve
from edgekit.commands.split import split

if TYPE_CHECKING:
    from edgekit.data import Preprocessing

DOCTOR_FOUND = 1
VERIFY_DIFFERS = 3

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Take a trained network to a board: smaller, faster, the same bytes on host and board.",
    epilog="Exit codes: 0 done, 1 a mistake or something missing, or doctor found faults, 2 wrong usage, "
    "3 verify found differing bytes, 130 interrupted.",
)
app.command()(serve)
app.command()(split)
app.add_typer(fleet.app, name="fleet")
app.command()(build)


def main() -> None:
    """Runs the command line; a mistake is told in a line or two, without a traceback."""
    # onnx_ir logs what it could not infer with a traceback; what follows from it is an error of ours.
    logging.getLogger("onnx_ir").setLevel(logging.CRITICAL)
    try:
        app()
    except (EdgekitError, OSError) as error:
        err.print(f"error: {_describe(error)}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


def _describe(error: Exception) -> str:
    """Returns an error in words; of the system's own errors without their number."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


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
    dynamic = "dynamic"
    wide = "16x8"


class Ranges(StrEnum):
    """Ways to choose ranges from a calibration."""

    auto = "auto"
    minmax = "minmax"
    percentile = "percentile"
    mse = "mse"
    entropy = "entropy"


app.add_typer(targets.app, name="targets")
app.add_typer(device.app, name="device")

Preprocess = Annotated[
    list[str] | None,
    typer.Option(
        help="How pictures become inputs, KEY=VALUE, may be given often: size=224 (or 224x320), crop=7/8, "
        "mean=127 (or 124,117,104), scale=1/128, layout=NCHW|NHWC, channels=RGB|BGR|L, resample=bicubic|bilinear."
    ),
]
Threads = Annotated[int, typer.Option(min=1, help="Threads that a run may use.")]
Batch = Annotated[int, typer.Option(min=1, help="What an open first dimension becomes.")]


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        out.print(f"edgekit {__version__}", highlight=False)
        raise typer.Exit


@app.command()
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
    ranges: Annotated[
        Ranges, typer.Option(help="How ranges come from the calibration.")
    ] = Ranges.auto,
    labels: Annotated[
        Path | None, typer.Option(help="Names of classes, one a line, for applications.")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=1,3,640,640: fixes an input's size; the same input again: a further size."
        ),
    ] = None,
    constant: Annotated[
        list[str] | None,
        typer.Option(help="NAME=16000: an input that is always the same; may be given often."),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(help="INPUT=OUTPUT: what a run gives is what the next one takes."),
    ] = None,
    batch: Batch = 1,
    threads: Threads = 1,
    tune: Annotated[
        bool, typer.Option("--tune", help="Choose kernels by measuring; for this machine alone.")
    ] = False,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A file that calibration continues from and saves to.")
    ] = None,
    preprocess: Preprocess = None,
    evaluate: Annotated[
        Path | None,
        typer.Option(help="Pictures to measure by, in a folder for each class of --labels."),
    ] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="How much of the share that is right may be lost.")
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
    as_json: Json = False,
) -> None:
    """Quantize a model, pack it for a board, and report what that did."""
    from edgekit.converters.can_hold import parse_format
    from edgekit.converters.fix_shapes import parse_sizes
    from edgekit.converters.fold_branches import parse_constant
    from edgekit.data import parse_preprocessing
    from edgekit.deployment import deploy as run_deploy
    from edgekit.states import parse_state

    preprocessing = parse_preprocessing(preprocess) if preprocess else None
    measure = None
    if evaluate is not None:
        from edgekit.classification import Classification
        from edgekit.task_metadata import read_labels

        if labels is None or preprocessing is None:
            raise typer.BadParameter("--evaluate needs --labels and --preprocess")
        measure = Classification.from_folder(evaluate, read_labels(labels), preprocessing)
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
            progress=progress,
        )
    if as_json:
        print_json({"path": str(deployment.path), **deployment.report.to_dict()})
    else:
        out.print(deployment.report)
        out.print(f"written to {deployment.path}", highlight=False)


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="An .onnx, a .tflite, a .plan or a bundle.")],
    as_json: Json = False,
) -> None:
    """Check a file and say what is in it."""
    from edgekit.inspection import inspect as run_inspect

    facts = run_inspect(path)
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle: its folder or its one file.")],
    key: Annotated[
        Path | None, typer.Option(help="The public key that must have signed the bundle.")
    ] = None,
    on: Annotated[
        str | None, typer.Option(help="The device that has it: ssh://[user@]host[:port][/root].")
    ] = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Check a bundle and run it, on this CPU, its board's emulated one or a device: the same bytes layer by layer?"""
    from dataclasses import asdict

    from edgekit.delivery.verify_on import verify_on
    from edgekit.verify import verify as run_verify

    with err.status(f"running {bundle}"):
        if on is None:
            result = run_verify(bundle, threads=threads, key=key)
        else:
            result = verify_on(bundle, on, threads=threads, key=key)
    if as_json:
        print_json({"ok": result.ok, **asdict(result)})
    else:
        out.print(str(result), markup=False, highlight=False)
    if not result.ok:
        raise typer.Exit(VERIFY_DIFFERS)


@app.command()
def keygen(
    name: Annotated[Path, typer.Argument(help="Writes NAME.key, the secret, and NAME.pub.")],
    password: Annotated[
        bool, typer.Option(help="Lock the secret key with a password that is asked for.")
    ] = True,
) -> None:
    """Make a key that signs bundles, in minisign's format."""
    from edgekit.minisign import make_key, write_key_files

    words = (
        typer.prompt("password", hide_input=True, confirmation_prompt=True) if password else None
    )
    key = make_key()
    secret, public = (name.with_name(name.name + ending) for ending in (".key", ".pub"))
    write_key_files(key, secret, public, words)
    out.print(f"key {key.public.name}: {secret}, to be kept secret, and {public}", highlight=False)


@app.command()
def sign(
    bundle: Annotated[Path, typer.Argument(help="A bundle: its folder or its one file.")],
    key: Annotated[Path, typer.Option(help="The secret key.")],
) -> None:
    """Sign a bundle: whoever has the public key can tell that it is yours and unchanged."""
    from edgekit.bundle import sign_bundle
    from edgekit.bundle_file import rewritten

    secret = ask_secret_key(key)
    with rewritten(bundle) as folder:
        file = sign_bundle(folder, secret)
    shown = file if folder == bundle else bundle
    out.print(f"signed by {secret.public.name}: {shown}", highlight=False)


app.command()(release)
app.command()(pack)
app.command()(delta)
app.command()(patch)
app.command()(unpack)
app.command()(lock)
app.command()(flash)


@app.command()
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


@app.command()
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


@app.command()
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

    from edgekit.archive import unpacked
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
        raise typer.Exit(DOCTOR_FOUND)


def _read_input(path: Path, preprocessing: Preprocessing | None) -> Any:
    from edgekit.data import IMAGE_SUFFIXES
    from edgekit.golden import read_array

    if not path.is_file():
        raise EdgekitError(f"{path}: no such file")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return read_array(path)
    if preprocessing is None:
        raise EdgekitError(
            f"{path}: say how the picture becomes an input: --preprocess size=... (see --help)"
        )
    return preprocessing.read(path)
