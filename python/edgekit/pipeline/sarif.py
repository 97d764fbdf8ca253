"""What gates found as SARIF 2.1.0, which services that host code show beside a change.

OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0 Plus Errata 01", 2023. A result is written for
each promise that is broken (an error) or undecided (a warning), and none for what is kept: the alert closes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgekit import __version__

_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_ROOT = "%SRCROOT%"
# By rule: name, what it is in short, and what to do.
_RULES = {
    "max-drop": (
        "AnswersBecameWorse",
        "Fewer answers are right than was promised",
        "Deploy with more or other calibration samples, give layers a wider format, or allow a larger drop.",
    ),
    "max-ms": (
        "RunsBecameSlower",
        "A run takes longer than was promised",
        "Compare both bundles with `edgekit bench`, whose layers say where the time goes, or allow more.",
    ),
    "max-mb": (
        "MemoryGrew",
        "The network holds more memory than was promised",
        "Deploy for a smaller input or batch, give layers a narrower format, or allow more.",
    ),
}
_LEVELS = {"broken": "error", "undecided": "warning"}


def write_sarif(path: Path, results: Sequence[Mapping[str, Any]], root: Path | None = None) -> None:
    """Writes what gates found.

    Args:
        path: The file.
        results: `GateResult.to_dict` of each.
        root: The folder of the sources, which files are named from; by default the current one.

    Raises:
        OSError: The file cannot be written.
    """
    text = json.dumps(make_sarif(results, root or Path.cwd()), indent=2, ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def make_sarif(results: Sequence[Mapping[str, Any]], root: Path) -> dict[str, Any]:
    """Returns a SARIF log with one run.

    Args:
        results: `GateResult.to_dict` of each gate.
        root: The folder of the sources.
    """
    found = [
        (result, check)
        for result in results
        for check in result["checks"]
        if check["verdict"] in _LEVELS
    ]
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "edgekit",
                        "version": __version__,
                        "semanticVersion": __version__,
                        "rules": [_describe_rule(rule) for rule in _RULES],
                    }
                },
                "automationDetails": {"id": "edgekit-gate/"},
                "columnKind": "utf16CodeUnits",
                "originalUriBaseIds": {_ROOT: {"uri": f"{root.resolve().as_uri()}/"}},
                "invocations": [
                    {
                        "executionSuccessful": True,
                        "exitCode": max(
                            (int(result["exit_code"]) for result in results), default=0
                        ),
                    }
                ],
                "artifacts": _list_artifacts(results, root),
                "results": [_make_result(result, check, root) for result, check in found],
            }
        ],
    }


def _describe_rule(rule: str) -> dict[str, Any]:
    name, short, advice = _RULES[rule]
    return {
        "id": rule,
        "name": name,
        "shortDescription": {"text": short},
        "fullDescription": {"text": f"{short}, or too few measurements promise that it is not so."},
        "help": {"text": advice, "markdown": advice},
        "defaultConfiguration": {"level": "error"},
        "properties": {
            "tags": ["quantization", "accuracy" if rule == "max-drop" else "performance"]
        },
    }


def _make_result(result: Mapping[str, Any], check: Mapping[str, Any], root: Path) -> dict[str, Any]:
    rule, place = check["rule"], _locate(check["file"], root)
    bundle, baseline = result["bundle"]["path"], result["baseline"]["path"]
    name = f"{rule}\0{place['uri']}".encode()
    return {
        "ruleId": rule,
        "ruleIndex": list(_RULES).index(rule),
        "level": _LEVELS[check["verdict"]],
        "message": {"text": f"{bundle} against {baseline}: {check['message']}"},
        "locations": [
            {"physicalLocation": {"artifactLocation": place, "region": {"startLine": 1}}}
        ],
        "partialFingerprints": {"edgekitGate/v1": hashlib.sha256(name).hexdigest()},
        "properties": {"promise": check["promise"]},
    }


def _list_artifacts(results: Sequence[Mapping[str, Any]], root: Path) -> list[dict[str, Any]]:
    """Returns each network's file once, with its digest."""
    artifacts = {}
    for result in results:
        for check in result["checks"]:
            place = _locate(check["file"], root)
            artifacts[place["uri"]] = {
                "location": place,
                "roles": ["analysisTarget"],
                "properties": {"networkSha256": result["bundle"]["sha256"]},
            }
    return list(artifacts.values())


def _locate(file: str, root: Path) -> dict[str, str]:
    """Returns where a file is, seen from the sources where it lies among them."""
    path = (Path.cwd() / file).resolve()
    try:
        return {"uri": quote(path.relative_to(root.resolve()).as_posix()), "uriBaseId": _ROOT}
    except ValueError:
        return {"uri": path.as_uri()}
