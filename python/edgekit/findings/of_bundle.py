"""Makes a report of a bundle alone: what its papers say, what can be counted in it, and what can be timed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit import _native
from edgekit.agreement import Proportion
from edgekit.benchmark import benchmark, make_plan_inputs
from edgekit.bundles.archive import unpacked
from edgekit.bundles.bundle import ONNX_FILE, TFLITE_FILE, Bundle, find_bare_forms, read_bundle
from edgekit.converters.onnx_file import size_of_onnx
from edgekit.forms import runs_here
from edgekit.promise.paired import Discordant
from edgekit.report import Accuracy, Asked, Compared, Evaluation, Layer, Memory, Report, Size
from edgekit.report.asked import NOT_MEASURED
from edgekit.session import NativeSession, load
from edgekit.targets.errors import EdgekitError, PlanError
from edgekit.timing import describe_machine

_MADE_FROM = (
    "Made from the bundle alone, which holds no float model and no samples: "
    "deploy --report writes the whole report."
)
_PROFILE_REPEATS = 20
NATIVE_FORM = "int8, native"


def report_bundle(path: str | Path, *, threads: int = 1, seconds: float = 1.0) -> Report:
    """Returns what a bundle tells of itself, with times of this machine where its plan runs here.

    Args:
        path: Its folder or its one file.
        threads: That a run may use.
        seconds: About how long to time it.

    Raises:
        PlanError: The bundle is damaged, or locked.
        EdgekitError: There is none.
    """
    path = Path(path)
    if not path.exists():
        raise EdgekitError(f"{path}: no such bundle or report")
    with unpacked(path) as folder:
        if folder.is_dir() and find_bare_forms(folder):
            raise EdgekitError(
                f"{path}: holds a form alone, and no papers: deploy --report writes the whole report"
            )
        return _report(read_bundle(folder), threads, seconds)


def _report(bundle: Bundle, threads: int, seconds: float) -> Report:
    plan = _native.Plan.open(bundle.plan)
    forms = {
        "ONNX": bundle.path / ONNX_FILE,
        "TFLite": bundle.path / TFLITE_FILE,
        NATIVE_FORM: bundle.plan,
    }
    certificate, origin = bundle.certificate, bundle.origin
    try:
        accuracy, evaluation = _read_evaluation(certificate.get("evaluation"))
        agreement, snr_db = _read_agreement(certificate.get("agreement"))
        calibration = _describe_calibration(origin.get("calibration"))
        model, digest = str(origin["model"]), str(origin["source_digest"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PlanError(f"{bundle.path}: its papers cannot be read: {error!r}") from error
    needs = plan.memory
    report = Report(
        model=model,
        source_digest=digest,
        target=bundle.target.name,
        isa=plan.isa,
        batch=int(origin.get("batch", 1)),
        calibration=calibration,
        ranges=str(origin.get("ranges", "")),
        machine=describe_machine(),
        versions={name: str(version) for name, version in bundle.versions.items()},
        sizes=[Size(form, size_of_onnx(file)) for form, file in forms.items() if file.is_file()],
        memory=Memory(
            plan_bytes=needs.plan,
            arena_bytes=needs.arena,
            lower_bound_bytes=plan.arena_lower_bound,
            scratch_bytes=needs.scratch,
            external_bytes=needs.external,
        ),
        layers=[
            Layer(
                op.name,
                op.kind,
                op.kernel,
                tuple(op.output.shape),
                format="float32" if op.kind.startswith("Float") else "int8" if op.kernel else "",
            )
            for op in plan.ops
        ],
        accuracy=accuracy,
        snr_db=snr_db,
        agreement=agreement,
        asked=_list_asked(bundle),
        evaluation=evaluation,
        made_from=_MADE_FROM,
    )
    if not runs_here(plan.isa):
        note = f"nothing was timed: the plan is for {plan.isa}, which this machine lacks"
        return replace(report, notes=[note])
    session = load(bundle.plan, threads=threads)
    assert isinstance(session, NativeSession)
    profile = session.native.profile(make_plan_inputs(session), repeats=_PROFILE_REPEATS)
    return replace(
        report,
        latencies=benchmark(
            {NATIVE_FORM: bundle.plan}, batch=report.batch, threads=(threads,), seconds=seconds
        ),
        layers=[
            replace(layer, microseconds=1e6 * taken)
            for layer, (_, taken) in zip(report.layers, profile, strict=True)
        ],
        notes=["times are this machine's, whatever the bundle's target is"],
    )


def _list_asked(bundle: Bundle) -> list[Asked]:
    """Returns the limits that a device will hold the bundle to."""
    how = "the device checks it before it switches to the bundle"
    limits, asked = bundle.limits, []
    if limits.latency_us:
        asked.append(Asked("max_ms", f"{limits.latency_us / 1e3:g} ms", "", NOT_MEASURED, how))
    if limits.memory_bytes:
        asked.append(Asked("max_mb", f"{limits.memory_bytes / 1e6:g} MB", "", NOT_MEASURED, how))
    return asked


def _describe_calibration(facts: Any) -> str:
    if not isinstance(facts, Mapping):
        return "not known"
    return f"{facts['samples']} samples, SHA-256 {facts['sha256']}"


def _read_agreement(facts: Any) -> tuple[Proportion | None, float | None]:
    if not isinstance(facts, Mapping):
        return None, None
    return _read_proportion(facts["same_answer"]), float(facts["snr_db"])


def _read_evaluation(facts: Any) -> tuple[Accuracy | None, Evaluation | None]:
    """Returns what the certificate says of the caller's measure; of a `Classification` also by class."""
    if not isinstance(facts, Mapping):
        return None, None
    if not isinstance(facts["float"], Mapping):
        return Accuracy(float(facts["float"]), float(facts["deployed"])), None
    before, after = _read_proportion(facts["float"]), _read_proportion(facts["deployed"])
    drop, worst = facts["drop"], facts["worst_class"]
    low, high = drop["interval_95"]
    whole = Compared(
        "",
        before.total,
        before.share,
        after.share,
        before.interval,
        after.interval,
        (float(low), float(high)),
        Discordant(int(drop["more"]), int(drop["less"]), int(drop["total"])),
        _read_proportion(facts["changed"]),
    )
    first, second = _read_proportion(worst["float"]), _read_proportion(worst["deployed"])
    name = str(worst.get("label", f"class {worst['class']}"))
    part = Compared(
        f"{name}, the worst class",
        second.total,
        first.share,
        second.share,
        first.interval,
        second.interval,
    )
    evaluation = Evaluation(
        str(facts["measure"]),
        whole,
        [part],
        intervals="as the certificate in the bundle says; of the classes it names the worst alone",
    )
    return Accuracy(before.share, after.share), evaluation


def _read_proportion(facts: Mapping[str, Any]) -> Proportion:
    return Proportion(int(facts["count"]), int(facts["total"]))
