"""The certificate of a bundle, `certificate.json`: what was measured of its answers, on what, and what was not.

Figures are those of this deployment, made by the form that the bundle holds and by the float model in ONNX Runtime.
Shares have their 95 % interval. What nobody measured is said to be "not measured". Times are not in it: they belong to
a machine and a moment. The same inputs give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.agreement import Proportion
from edgekit.choosing.goal import Evaluate
from edgekit.classification import Classification
from edgekit.data import Samples
from edgekit.report import Accuracy, Report
from edgekit.session import NativeSession, Session

NOT_MEASURED = "not measured"
_INTERVALS = (
    "95 %: of shares Wilson's score interval (1927); of differences of shares of the same samples Bonett and Price's "
    "adjusted Wald interval (2012)"
)


def make_certificate(
    report: Report,
    samples: Samples,
    evaluate: Evaluate | None,
    reference: Session,
    session: Session,
    labels: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns the certificate.

    Args:
        report: Of the deployment.
        samples: The calibration samples.
        evaluate: The caller's measure, if there is one; of a `Classification` more is said.
        reference: Runs the float model.
        session: Runs what was deployed.
        labels: Names of the classes.
    """
    return {
        "schema": 1,
        "model": {"name": report.model, "sha256": report.source_digest},
        "target": {"name": report.target, "isa": report.isa},
        "measured_with": _describe_session(session),
        "compared_with": f"the float model in ONNX Runtime {report.versions['onnxruntime']}",
        "quantization": {
            "ranges": report.ranges or "the model's own",
            "precision": NOT_MEASURED if report.precision is None else report.precision.chosen,
            "int8_share_of_products": (
                NOT_MEASURED if report.precision is None else round(report.precision.int8_share, 6)
            ),
        },
        "calibration": describe_samples(samples),
        "agreement": _describe_agreement(report, samples),
        "evaluation": _describe_evaluation(report.accuracy, evaluate, reference, session, labels),
        "intervals": _INTERVALS,
        "versions": report.versions,
    }


def describe_samples(samples: Samples) -> dict[str, Any]:
    """Returns what there is to say of calibration samples, and nothing of where they lay."""
    return {
        "kind": samples.kind,
        "samples": len(samples),
        "sha256": samples.digest,
        "sha256_of": "the sorted SHA-256 of the samples as the network takes them",
    }


def _describe_session(session: Session) -> str:
    if isinstance(session, NativeSession):
        return f"edgekit's runtime, instruction set {session.plan.isa}"
    return type(session).__name__.removesuffix("Session")


def _describe_agreement(report: Report, samples: Samples) -> dict[str, Any] | str:
    """Returns how the answers compare with the float model's on calibration samples."""
    same = report.agreement
    if same is None or report.snr_db is None:
        return NOT_MEASURED
    return {
        "on": f"{same.total} of {len(samples)} calibration samples, evenly spread: those that ranges were chosen by",
        "same_answer": same.to_dict(),
        "changed": Proportion(same.total - same.count, same.total).to_dict(),
        "answer": "where the first output of numbers is largest, along its last axis",
        "snr_db": round(report.snr_db, 1),
    }


def _describe_evaluation(
    accuracy: Accuracy | None,
    evaluate: Evaluate | None,
    reference: Session,
    session: Session,
    labels: Sequence[str],
) -> dict[str, Any] | str:
    """Returns what the caller's measure says of both networks."""
    if accuracy is None or evaluate is None:
        return NOT_MEASURED
    if not isinstance(evaluate, Classification):
        return {
            "measure": "the caller's own, higher is better",
            "samples": "not known",
            "float": accuracy.float_value,
            "deployed": accuracy.int8_value,
            "drop": accuracy.drop,
            "interval_95": NOT_MEASURED,
            "worst_class": NOT_MEASURED,
        }
    compared = evaluate.compare(reference, session)
    worst = compared.worst
    return {
        "measure": "share of samples whose largest output is that of the right class",
        "samples": len(evaluate.answers),
        "sha256": evaluate.digest,
        "float": compared.reference.to_dict(),
        "deployed": compared.candidate.to_dict(),
        "drop": compared.difference.to_dict(),
        "changed": compared.changed.to_dict(),
        "worst_class": {
            "class": worst.number,
            **({"label": labels[worst.number]} if worst.number < len(labels) else {}),
            "float": worst.reference.to_dict(),
            "deployed": worst.candidate.to_dict(),
        },
    }
