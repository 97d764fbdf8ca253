"""Runs a network in two parts: the head here, the tail on a server."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy.typing as npt

from edgekit.bundles.bundle import read_bundle
from edgekit.partition.folder import HEAD, TAIL_PLAN
from edgekit.serving.client import RemoteSession, connect
from edgekit.session import Session, load
from edgekit.targets.errors import PlanError, RemoteError


class SplitSession(Session):
    """The whole network: its inputs and outputs, the bytes of the one-device run.

    Attributes:
        head: Runs here.
        tail: Runs on the server.
    """

    def __init__(self, head: Session, tail: RemoteSession) -> None:
        self.head = head
        self.tail = tail
        self.path = head.path
        self.threads = head.threads
        self.inputs = head.inputs
        self.outputs = tail.outputs
        self.sizes = head.sizes

    def _run(self, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        return self.tail.run(self.head.run(inputs))

    def close(self) -> None:
        """Ends the connection; the next run makes a new one."""
        self.tail.close()

    def __enter__(self) -> SplitSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def load_split(
    head: str | Path,
    tail: str,
    *,
    threads: int = 1,
    timeout_s: float = 10.0,
    ca: str | os.PathLike[str] | None = None,
    certificate: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
) -> SplitSession:
    """Makes a session of a network in two parts, whose tail a server has.

    Args:
        head: The head's bundle, or the folder that `split` wrote.
        tail: Where the tail is served: ``tcp://host:port``, ``tls://host:port`` or ``unix:/path``.
        threads: Threads that the head may use.
        timeout_s: As `edgekit.connect`.
        ca: As `edgekit.connect`.
        certificate: Likewise.
        key: Likewise.

    Raises:
        PlanError: The bundle is damaged, or no head.
        RemoteError: Nobody answers there, or what is served is not the tail that the head was cut from.
    """
    folder = Path(head)
    if (folder / HEAD).is_dir():
        folder = folder / HEAD
    split = read_bundle(folder).origin.get("split")
    wanted = split.get(TAIL_PLAN) if isinstance(split, dict) else None
    if not isinstance(wanted, str):
        raise PlanError(f"{folder}: no head of a split network: its manifest names no tail")
    first = load(folder, threads=threads)
    second = connect(tail, timeout_s=timeout_s, ca=ca, certificate=certificate, key=key)
    if second.hello.digest != wanted:
        second.close()
        raise RemoteError(
            f"{second.address}: serves the plan {second.hello.digest[:16]}..., and {folder} was cut from the tail "
            f"{wanted[:16]}...: serve the tail's bundle that was written with it"
        )
    return SplitSession(first, second)
