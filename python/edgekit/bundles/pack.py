"""Writes a deployment's folder: a bundle where the native form is in it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import _native
from edgekit.building.library import build_library
from edgekit.building.programs import PlanParts, build_programs
from edgekit.bundles.bundle import (
    BOARD_PROGRAM,
    CERTIFICATE,
    ONNX_DATA_FILE,
    ONNX_FILE,
    PLAN,
    RUNNER,
    TFLITE_FILE,
    is_replaceable,
    write_bundle,
)
from edgekit.bundles.certificate import describe_samples
from edgekit.bundles.golden import GoldenArrays, LayerDigest
from edgekit.bundles.manifest import BundleTarget, format_json
from edgekit.bundles.release import Release
from edgekit.bundles.sbom import LIBRARIES, SBOM, Ingredients, Software, Tensor, make_sbom
from edgekit.bundles.usage import Usage
from edgekit.converters.onnx_file import data_path
from edgekit.data import Samples
from edgekit.forms import Forms, Recipe
from edgekit.replace_folder import replace_folder
from edgekit.report import Report
from edgekit.session import NativeSession
from edgekit.sizes import make_sample
from edgekit.targets.errors import EdgekitError


@dataclass(frozen=True)
class Papers:
    """What goes with a bundle besides its network.

    Attributes:
        usage: What applications have to know.
        certificate: What was measured of the answers.
        model_license: SPDX id or name of the model's licence, "" where nobody said.
    """

    usage: Usage
    certificate: Mapping[str, Any]
    model_license: str = ""


@dataclass(frozen=True)
class Compilation:
    """What is compiled for the board.

    Attributes:
        slim: Whether the runner has the kernels and operators of this plan alone.
        library: Whether libedgekit, its header and its CMake package go into the bundle.
    """

    slim: bool = False
    library: bool = False


def pack(
    output: Path,
    recipe: Recipe,
    forms: Forms,
    report: Report,
    samples: Samples,
    release: Release,
    papers: Papers,
    compilation: Compilation = Compilation(),
) -> None:
    """Writes ``output``, which ``check_output`` let pass.

    Args:
        output: The folder; a deployment that is there already is replaced once the new one is whole.
        recipe: What was built.
        forms: The files.
        report: How it was made.
        samples: Calibration samples, of which the first become the golden input.
        release: What the bundle says of itself.
        papers: What goes with the bundle.
        compilation: What is compiled for the board.

    Raises:
        OSError: ``output`` cannot be written.
        ToolError: The board's programs cannot be built.
    """
    if forms.plan is None:
        with replace_folder(output) as folder:
            for name, file in _other_files(forms).items():
                shutil.copyfile(file, folder / name)
        return
    assert isinstance(forms.session, NativeSession)
    parts = PlanParts.of_plan(forms.plan) if compilation.slim else None
    programs = build_programs(recipe.profile, only=parts)
    library = build_library(recipe.profile) if compilation.library else None
    library_files = {} if library is None else library.files
    golden, *others = [
        _run_golden(samples, forms.session, size) for size in forms.session.native.plan.sizes
    ]
    versions = dict(report.versions)
    if programs.compiler:
        versions["compiler"] = programs.compiler
    other = _other_files(forms)
    first = forms.session.native.plan
    software = {
        name: Software(file, programs.toolchain, programs.compiler or "")
        for name, file in ((RUNNER, programs.runner), (BOARD_PROGRAM, programs.board))
    }
    if library is not None:
        software |= {
            name: Software(file, library.toolchain, library.compiler)
            for name, file in library_files.items()
            if name.endswith(LIBRARIES)
        }
    ingredients = Ingredients(
        title=f"{report.model} for {recipe.profile.title}",
        software=software,
        networks={PLAN: forms.plan}
        | {name: other[name] for name in (ONNX_FILE, TFLITE_FILE) if name in other},
        model=report.model,
        model_digest=report.source_digest,
        model_license=papers.model_license,
        inputs=[Tensor(t.name, str(t.dtype), tuple(t.shape)) for t in first.inputs],
        outputs=[Tensor(t.name, str(t.dtype), tuple(t.shape)) for t in first.outputs],
        certificate=papers.certificate,
        versions=versions,
    )
    write_bundle(
        output,
        plan=forms.plan,
        runner=programs.runner,
        board_program=programs.board,
        target=BundleTarget.from_profile(recipe.profile, recipe.isa),
        inputs=golden.inputs,
        outputs=golden.outputs,
        digests=golden.digests,
        versions=versions,
        origin={
            "model": report.model,
            "source_digest": report.source_digest,
            "calibration": describe_samples(samples),
            "ranges": report.ranges,
            "batch": report.batch,
            "toolchain": programs.toolchain,
        },
        extra={
            **other,
            **library_files,
            **papers.usage.to_files(),
            CERTIFICATE: format_json(papers.certificate),
            SBOM: format_json(make_sbom(ingredients)),
        },
        sizes=others,
        release=release.number,
        limits=release.limits,
        sign_with=release.key,
    )


def check_output(output: Path, sources: Sequence[Path]) -> None:
    """Checks that a deployment can be written to ``output`` without losing anything.

    Args:
        output: The folder; free, empty, or a former deployment, which will be replaced.
        sources: Files and folders that the deployment is made from.

    Raises:
        EdgekitError: It holds something else, or a source, or cannot be written.
    """
    for source in sources:
        if source.resolve().is_relative_to(output.resolve()):
            raise EdgekitError(
                f"{output}: not overwritten: it holds {source}, which is read. Choose another output folder."
            )
    if output.exists() and not is_replaceable(output):
        raise EdgekitError(
            f"{output}: not overwritten: it exists and holds something else than a deployment. "
            "Choose another output folder or empty it."
        )
    there = next(folder for folder in output.absolute().parents if folder.exists())
    try:
        # Permissions alone don't tell: a file system may be full or read-only.
        with tempfile.TemporaryDirectory(prefix=".edgekit-", dir=there):
            pass
    except OSError as error:
        raise EdgekitError(
            f"{output}: cannot be written: no folder can be made in {there}: {error.strerror}"
        ) from error


def _other_files(forms: Forms) -> dict[str, Path]:
    """Returns the files of the ONNX and TFLite forms, and what builds engines of them, by their name in the output.

    Beyond 2 GB an ONNX form's weights lie beside it.
    """
    files: dict[str, Path] = {}
    if forms.onnx is not None:
        files = {ONNX_FILE: forms.onnx, **forms.engine}
        if (data := data_path(forms.onnx)).exists():
            files[ONNX_DATA_FILE] = data
    if forms.tflite is not None:
        files[TFLITE_FILE] = forms.tflite.path
    return files


def _run_golden(samples: Samples, session: NativeSession, size: _native.Plan) -> GoldenArrays:
    """Returns what one size of the plan makes of samples, of which it takes one batch of its own."""
    inputs = make_sample(samples, {tensor.name: tensor.shape for tensor in size.inputs})
    session.reset()
    outputs = session.native.run(inputs)
    session.reset()
    digests = session.native.digests(inputs)
    return GoldenArrays(inputs, outputs, [LayerDigest(*row) for row in digests])
