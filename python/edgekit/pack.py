"""Writes a deployment's folder: a bundle where the native form is in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from edgekit.build_runner import build_runner
from edgekit.bundle import BundleTarget, LayerDigest, write_bundle
from edgekit.data import Sample, Samples
from edgekit.forms import Forms, Recipe
from edgekit.report import Report
from edgekit.session import NativeSession
from edgekit.targets.errors import EdgekitError

ONNX_FILE = "model.onnx"


def pack(output: Path, recipe: Recipe, forms: Forms, report: Report, samples: Samples) -> None:
    """Writes ``output``.

    Args:
        output: The folder; a bundle that is there already is replaced.
        recipe: What was built.
        forms: The files.
        report: How it was made.
        samples: Calibration samples, of which the first become the golden input.

    Raises:
        EdgekitError: ``output`` holds something else.
        ToolError: The board's runner cannot be built.
    """
    if forms.plan is None:
        assert forms.onnx is not None
        _pack_onnx(output, forms.onnx)
        return
    assert isinstance(forms.session, NativeSession)
    runner = build_runner(recipe.profile)
    inputs = _stack(samples, recipe.batch)
    digests = forms.session.native.digests(inputs)
    versions = dict(report.versions)
    if runner.compiler:
        versions["compiler"] = runner.compiler
    write_bundle(
        output,
        plan=forms.plan,
        runner=runner.path,
        target=BundleTarget.from_profile(recipe.profile, recipe.isa),
        inputs=inputs,
        outputs=forms.session.run(inputs),
        digests=[LayerDigest(*row) for row in digests],
        versions=versions,
        origin={
            "model": report.model,
            "source_digest": report.source_digest,
            "calibration": report.calibration,
            "ranges": report.ranges,
            "batch": report.batch,
            "toolchain": runner.toolchain,
        },
        extra={ONNX_FILE: forms.onnx} if forms.onnx else None,
    )


def _pack_onnx(output: Path, onnx: Path) -> None:
    """Writes a folder that holds the ONNX form alone."""
    others = [path.name for path in output.iterdir()] if output.is_dir() else []
    if output.is_file() or set(others) - {ONNX_FILE}:
        raise EdgekitError(
            f"{output}: not overwritten: it exists and holds something else. Choose another output folder."
        )
    output.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(onnx, output / ONNX_FILE)


def _stack(samples: Samples, batch: int) -> Sample:
    """Returns the first samples as one batch, begun anew where there are too few."""
    rows = [samples[index % len(samples)] for index in range(batch)]
    if len(next(iter(rows[0].values()))) == batch:
        return rows[0]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
