"""The command line.

Exit codes: 0 done; 1 a mistake in what was given, or something that this machine lacks, or `doctor` found faults (it
then prints them; a mistake prints nothing but a line that begins with "error: " on the error stream); 2 wrong usage;
3 `verify` found bytes that differ; 130 interrupted. `gate` has its own: commands/gate.py.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from edgekit import EdgekitError, __version__
from edgekit.commands import device, fleet, targets
from edgekit.commands.bench import bench
from edgekit.commands.build import build
from edgekit.commands.bundles import lock, pack, release, unpack
from edgekit.commands.console import err, out
from edgekit.commands.delta import delta, patch
from edgekit.commands.deploy import deploy
from edgekit.commands.distill import distill
from edgekit.commands.doctor import doctor
from edgekit.commands.flash import flash
from edgekit.commands.gate import gate
from edgekit.commands.inspect import inspect
from edgekit.commands.report import report
from edgekit.commands.run import run
from edgekit.commands.sensitivity import sensitivity
from edgekit.commands.serve import serve
from edgekit.commands.sign import keygen, sign
from edgekit.commands.split import split
from edgekit.commands.verify import verify

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Take a trained network to a board: smaller, faster, the same bytes on host and board.",
    epilog="Exit codes: 0 done, 1 a mistake or something missing, or doctor found faults, 2 wrong usage, "
    "3 verify found differing bytes, 130 interrupted; of gate: 0 kept, 1 broken, 2 a mistake, 3 too few samples.",
)

# In the order in which --help lists them.
_COMMANDS = (
    serve,
    split,
    build,
    deploy,
    inspect,
    verify,
    keygen,
    sign,
    release,
    pack,
    delta,
    patch,
    unpack,
    lock,
    flash,
    run,
    bench,
    doctor,
    sensitivity,
    distill,
    gate,
    report,
)
_GROUPS = {"fleet": fleet.app, "targets": targets.app, "device": device.app}
for _command in _COMMANDS:
    app.command()(_command)
for _name, _group in _GROUPS.items():
    app.add_typer(_group, name=_name)


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


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        out.print(f"edgekit {__version__}", highlight=False)
        raise typer.Exit
