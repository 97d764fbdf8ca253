"""The two networks that a gate compares: opened, and what is known of them without running them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import _native
from edgekit.bundles.archive import is_bundle_file, unpacked
from edgekit.bundles.bundle import read_bundle
from edgekit.bundles.manifest import MANIFEST
from edgekit.converters.onnx_file import size_of_onnx
from edgekit.session import Session, find_in_bundle, load
from edgekit.targets.errors import EdgekitError, PlanError


@dataclass(frozen=True)
class Subject:
    """One of the two networks.

    Attributes:
        path: As it was named.
        file: The network's file; of a bundle's one file, that one.
        session: Runs it here; None where this machine cannot.
        obstacle: Why it cannot.
        memory_bytes: What the native form holds while it runs, plan included; None for other forms.
        file_bytes: Of the network's file, with data beside it.
        sha256: Of the network's file.
    """

    path: Path
    file: Path
    session: Session | None
    obstacle: str
    memory_bytes: int | None
    file_bytes: int
    sha256: str

    def run_here(self, what: str) -> Session:
        """Returns the session.

        Raises:
            EdgekitError: There is none; names ``what`` needs one.
        """
        if self.session is None:
            raise EdgekitError(
                f"{self.path}: {what} needs to run it here, which this machine cannot: {self.obstacle}; a deployment "
                "of the same model for this machine gives the same answers, to the byte"
            )
        return self.session


@contextmanager
def opened(path: Path, threads: int) -> Iterator[Subject]:
    """Yields a bundle or a model, ready to be compared; a bundle's files are checked against its manifest.

    Raises:
        EdgekitError: There is none, it is damaged, or it is locked.
    """
    if not path.exists():
        raise EdgekitError(f"{path}: no such file or folder")
    with unpacked(path) as place:
        if (place / MANIFEST).is_file():
            read_bundle(place)
        network = find_in_bundle(place) if place.is_dir() else place
        session, obstacle, memory = None, "", None
        if network.suffix.lower() == ".plan":
            memory = _read_memory(network, threads)
        try:
            session = load(place, threads=threads)
        except PlanError as error:
            # Whole, as was just read: it is for another instruction set.
            if memory is None:
                raise
            obstacle = str(error).removeprefix(f"{network}: ")
        with network.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        yield Subject(
            path=path,
            file=path if is_bundle_file(path) else network,
            session=session,
            obstacle=obstacle,
            memory_bytes=memory,
            file_bytes=size_of_onnx(network),
            sha256=digest,
        )


def _read_memory(plan: Path, threads: int) -> int:
    needs = _native.Plan.open(plan).memory
    return needs.plan + needs.arena + threads * needs.scratch + needs.external


@dataclass(frozen=True)
class Record:
    """What `edgekit bench BUNDLE --on DEVICE --json` measured of a bundle.

    Attributes:
        label: Where.
        plan_sha256: Of the plan.
        median_ms: Of the runs, None on an emulated device.
        runs: How many.
        peak_bytes: Most memory that the program held there, None where the device does not tell.
    """

    label: str
    plan_sha256: str
    median_ms: float | None
    runs: int
    peak_bytes: int | None


def read_record(path: Path) -> Record:
    """Reads a stored measurement.

    Raises:
        EdgekitError: It is none.
        OSError: It cannot be read.
    """
    try:
        table = json.loads(path.read_bytes())
        latency: Mapping[str, Any] | None = table["latency"]
        peak = table["peak_bytes"]
        return Record(
            label=str(table["label"]),
            plan_sha256=str(table["bundle"]["plan_sha256"]),
            median_ms=None if latency is None else float(latency["median_ms"]),
            runs=0 if latency is None else int(latency["runs"]),
            peak_bytes=None if peak is None else int(peak),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EdgekitError(
            f"{path}: no record of a measurement; `edgekit bench BUNDLE --on DEVICE --json` prints one"
        ) from error
