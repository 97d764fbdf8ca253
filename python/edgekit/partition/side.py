"""The two devices of a split network: how long each operator takes there, and how its part becomes a bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit import _native
from edgekit.building.programs import build_programs
from edgekit.bundles.bundle import Bundle, write_bundle
from edgekit.bundles.golden import LayerDigest
from edgekit.bundles.manifest import BundleTarget
from edgekit.converters.program import Program
from edgekit.converters.write_plan import write_plan
from edgekit.costs.cost_model import CostModel
from edgekit.session import NativeSession
from edgekit.targets.profile import Profile

_REPEATS = 20

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Side:
    """A device.

    Attributes:
        profile: Of it.
        operator_us: Time of each operator of the whole network.
        how: "measured" on this machine, or "modelled" from the profile's figures for one core.
    """

    profile: Profile
    operator_us: tuple[float, ...]
    how: str

    @property
    def isa(self) -> str:
        """The instruction set that its plans are made for."""
        return resolve_isa(self.profile)


def resolve_isa(profile: Profile) -> str:
    """Returns the instruction set of a profile's plans: this machine's strongest where it says so."""
    return _native.best_isa() if profile.isa == "auto" else profile.isa


def time_side(program: Program, profile: Profile, inputs: Arrays) -> Side:
    """Returns the device with the time of each operator: measured where it is this machine, else modelled."""
    if profile.isa != "auto":
        times = CostModel.of_profile(profile, profile.isa).time_layers(program)
        return Side(profile, tuple(times), "modelled")
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "whole.plan"
        _write(program, path, profile, resolve_isa(profile), "whole", {})
        session = NativeSession(path, _native.Plan.open(path), 1)
        rows = session.native.profile(dict(inputs), repeats=_REPEATS)
    return Side(profile, tuple(1e6 * seconds for _, seconds in rows), "measured")


@dataclass(frozen=True)
class Part:
    """A part of a network as a plan.

    Attributes:
        plan: The file for its device.
        inputs: Golden ones.
        outputs: What comes of them.
        digests: Of each operator's output.
    """

    plan: Path
    inputs: Arrays
    outputs: Arrays
    digests: Sequence[LayerDigest]


def make_part(
    program: Program,
    profile: Profile,
    inputs: Arrays,
    folder: Path,
    *,
    source_digest: str,
    metadata: Mapping[str, str],
) -> Part:
    """Writes the plan of a part and runs it here on ``inputs``, by name in any order.

    Where this machine lacks the device's instruction set, the same program runs on its own: the same bytes.
    """
    folder.mkdir(parents=True)
    plan = folder / "model.plan"
    isa = resolve_isa(profile)
    _write(program, plan, profile, isa, source_digest, metadata)
    runnable = plan
    if not any(one.name == isa and one.built and one.supported for one in _native.isas()):
        runnable = folder / "host.plan"
        _write(program, runnable, profile, _native.best_isa(), source_digest, metadata)
    session = _native.Session(_native.Plan.open(runnable), threads=1)
    given = {name: np.ascontiguousarray(inputs[name]) for name in program.inputs}
    outputs = session.run(given)
    digests = [LayerDigest(*row) for row in session.digests(given)]
    return Part(plan, given, outputs, digests)


def write_part(
    path: Path, part: Part, profile: Profile, whole: Bundle, origin: Mapping[str, Any]
) -> Bundle:
    """Writes the bundle of a part.

    Args:
        path: The folder.
        part: What is in it.
        profile: Its device.
        whole: The bundle of the network that was cut.
        origin: What the manifest's ``origin`` says of the cut.

    Raises:
        OSError: The folder cannot be written.
        ToolError: The board's programs cannot be built.
    """
    programs = build_programs(profile)
    versions = {key: value for key, value in whole.versions.items() if key != "compiler"}
    if programs.compiler:
        versions["compiler"] = programs.compiler
    return write_bundle(
        path,
        plan=part.plan,
        runner=programs.runner,
        board_program=programs.board,
        target=BundleTarget.from_profile(profile, resolve_isa(profile)),
        inputs=part.inputs,
        outputs=part.outputs,
        digests=part.digests,
        versions=versions,
        origin={**whole.origin, "toolchain": programs.toolchain, "split": dict(origin)},
        release=max(whole.release, 1),
    )


def _write(
    program: Program,
    path: Path,
    profile: Profile,
    isa: str,
    source_digest: str,
    metadata: Mapping[str, str],
) -> None:
    l2_kib = profile.cpu.l2_kib
    write_plan(
        program,
        path,
        isa=isa,
        target=profile.name,
        source_digest=source_digest,
        metadata=metadata,
        cache_bytes=None if l2_kib is None else 1024 * l2_kib,
        cores=profile.threads.pin,
    )
