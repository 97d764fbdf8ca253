"""edgekit's own runtime as a contestant: `deploy` for this machine, then `load`."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator
from pathlib import Path

from edgekit.data import Sample
from edgekit.peers.contestant import (
    Contestant,
    Outputs,
    Package,
    Prepared,
    Problem,
    Run,
    Signature,
)


class Native(Contestant):
    """The native form that `deploy` writes with its defaults."""

    runtime = "edgekit"
    packages = (Package("edgekit", "edgekit"),)

    def get_version(self) -> str:
        """Returns the version and a digest of the code, so that a plan made by other code is made again."""
        digest = hashlib.sha256()
        for path in _list_code():
            digest.update(path.read_bytes())
        return f"{super().get_version()} ({digest.hexdigest()[:12]})"

    def load_library(self) -> None:
        """Imports what loads a plan."""
        importlib.import_module("edgekit.session")

    def prepare(self, problem: Problem) -> Prepared:
        """Deploys to this machine."""
        from edgekit.deployment import deploy

        deployment = deploy(
            problem.model,
            calibration=list(problem.samples),
            format="native",
            output=problem.folder / "bundle",
        )
        assert deployment.plan is not None
        report = deployment.report
        return Prepared(deployment.plan, f"edgekit.deploy: ranges by {report.ranges}, {report.isa}")

    def open(self, file: Path, signature: Signature, threads: int) -> Run:
        """Loads the plan with `edgekit.load`."""
        from edgekit.session import load

        session = load(file, threads=threads)
        names = [spec.name for spec in signature.outputs]

        def run(sample: Sample) -> Outputs:
            outputs = session.run(sample)
            return [outputs[name] for name in names]

        return run

    def count_integer(self, file: Path) -> tuple[int, int] | None:
        """Counts the plan's operators that are not of a float kind."""
        from edgekit import _native

        kinds = [op.kind for op in _native.Plan.open(file).ops]
        return sum(not kind.startswith("Float") for kind in kinds), len(kinds)


def _list_code() -> Iterator[Path]:
    """Yields the files that have a part in making a plan."""
    for name in ("edgekit", "edgekit.converters", "edgekit.targets"):
        file = importlib.import_module(name).__file__
        assert file is not None
        yield from sorted(Path(file).parent.rglob("*.py"))
    native = importlib.import_module("edgekit._native").__file__
    assert native is not None
    yield Path(native)
