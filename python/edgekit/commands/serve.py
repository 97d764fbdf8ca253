"""`edgekit serve`: a network for clients of docs/serving.md, with TLS where it is asked for."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from edgekit.commands.console import out


def serve(
    path: Annotated[Path, typer.Argument(help="A plan, a bundle, an .onnx or a .tflite file.")],
    listen: Annotated[str, typer.Option(help="tcp://host:port or unix:/path.")],
    threads: Annotated[int, typer.Option(min=1, help="Threads that a run may use.")] = 1,
    timeout: Annotated[
        float, typer.Option(help="Seconds for a client to send a request or to take a result.")
    ] = 10.0,
    clients: Annotated[int, typer.Option(min=1, help="Clients at a time.")] = 8,
    certificate: Annotated[
        Path | None, typer.Option(help="PEM file of the server's certificate: serves over TLS.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file of its private key.")] = None,
    ca: Annotated[
        Path | None,
        typer.Option(help="PEM file of the authorities that clients' certificates must be of."),
    ] = None,
) -> None:
    """Serves a network until it is told to end by SIGTERM or SIGINT."""
    from edgekit import EdgekitError
    from edgekit.serving.server import ServerTls
    from edgekit.serving.server import serve as make_server

    if certificate is None and (key or ca):
        raise EdgekitError("--key and --ca are for TLS, which needs --certificate")
    tls = (
        None
        if certificate is None
        else ServerTls(
            str(certificate), None if key is None else str(key), None if ca is None else str(ca)
        )
    )
    server = make_server(path, listen, threads=threads, timeout_s=timeout, clients=clients, tls=tls)
    for number in (signal.SIGTERM, signal.SIGINT):
        # close() takes locks that the interrupted thread may hold.
        signal.signal(number, lambda *_: threading.Thread(target=server.close).start())
    out.print(f"serving at {server.address}", markup=False, highlight=False, soft_wrap=True)
    server.serve_forever()
