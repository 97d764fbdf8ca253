"""What `deploy` is asked for, checked before anything takes long."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.bundles.manifest import Limits, check_release
from edgekit.bundles.minisign import SecretKey
from edgekit.bundles.pack import Compilation, check_output
from edgekit.bundles.release import Release, read_key
from edgekit.choosing.choose_rounding import ROUNDINGS
from edgekit.converters.calibrate import METHODS
from edgekit.converters.can_hold import name_formats
from edgekit.converters.fix_shapes import Shapes
from edgekit.converters.fold_branches import Constants
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.recover.recover import choose_passes
from edgekit.converters.write_onnx import get_style
from edgekit.data import Preprocessing
from edgekit.engine import check_engine
from edgekit.forms import FLOAT_ARITHMETICS, INT4, NATIVE, ONNX, PARTS, TFLITE, WIDE
from edgekit.pruning.prune import check_pruning
from edgekit.pruning.recipe import Pruning, read_pruning
from edgekit.session import check_threads
from edgekit.sizes import Sizes, list_sizes
from edgekit.targets.errors import EdgekitError, TargetError
from edgekit.targets.profile import Profile, load_profile


@dataclass(frozen=True)
class Request:
    """The checked arguments of one `deploy`, of which these names are the ones that it documents.

    Attributes:
        profile: The board.
        forms: What ``format`` asks for, or the board does: any of "native", "onnx" and "tflite".
        output: The folder to write, no link.
        sizes: At least one, which may say nothing.
        recover: Names of the passes that are tried or applied.
        pruning: What ``prune`` asks for.
        onnx_style: The asked one, or the board's.
        release: Number, limits and key of the bundle.
        compilation: What is compiled for the board.
    """

    profile: Profile
    forms: tuple[str, ...]
    output: Path
    sizes: tuple[Shapes, ...]
    quantize: str
    precision: str
    formats: Mapping[str, NumberFormat]
    ranges: str
    rounding: str
    recover: tuple[str, ...]
    pruning: Pruning
    onnx_style: str
    preprocessing: Preprocessing | None
    constants: Constants | None
    states: Mapping[str, str]
    labels: str | Path | Sequence[str] | None
    batch: int
    threads: int
    tune: bool
    release: Release
    compilation: Compilation
    model_license: str


def check_request(
    *,
    inputs: Sequence[Any],
    target: str | Path = "host",
    format: str | Sequence[str] | None = None,
    output: str | Path = "dist",
    shapes: Sizes | None = None,
    quantize: str = "auto",
    precision: str = "auto",
    formats: Mapping[str, NumberFormat | str] | None = None,
    prune: str | Mapping[str, Any] = "none",
    ranges: str = "auto",
    rounding: str = "auto",
    recover: str | Sequence[str] = "auto",
    onnx_style: str | None = None,
    preprocessing: Preprocessing | None = None,
    constants: Constants | None = None,
    states: Mapping[str, str] | None = None,
    labels: str | Path | Sequence[str] | None = None,
    batch: int = 1,
    threads: int = 1,
    tune: bool = False,
    release: int = 1,
    max_ms: float | None = None,
    max_mb: float | None = None,
    sign_with: str | Path | SecretKey | None = None,
    model_license: str | None = None,
    slim: bool = False,
    library: bool = False,
) -> Request:
    """Checks the arguments of `deploy`, which says what each is; ``inputs`` are those of them that may be read files.

    Raises:
        TargetError: There is no such board, or it cannot take the form.
        SignatureError: ``sign_with`` is no secret key.
        ToolError: What signing needs is missing.
        EdgekitError: An argument is out of its range.
    """
    _check_choice("quantize", quantize, ("auto", "int8", INT4, *PARTS, WIDE, *FLOAT_ARITHMETICS))
    _check_choice("precision", precision, ("auto", "int8"))
    pruning = read_pruning(prune)
    _check_choice("ranges", ranges, ("auto", *METHODS))
    _check_choice("rounding", rounding, ROUNDINGS)
    passes = choose_passes(recover)
    if onnx_style is not None:
        get_style(onnx_style)
    if not isinstance(batch, int) or batch < 1:
        raise EdgekitError(f"batch must be a whole number of at least 1, not {batch!r}")
    check_threads(threads)
    if not isinstance(tune, bool):
        raise EdgekitError(f"tune must be True or False, not {tune!r}")
    if model_license is not None and not (
        isinstance(model_license, str) and model_license.isprintable() and model_license.strip()
    ):
        raise EdgekitError(f"model_license must be a licence's id or name, not {model_license!r}")
    check_release(release)
    limits = Limits.from_units(max_ms, max_mb)
    layer_formats = name_formats(formats)
    sizes = list_sizes(shapes)
    for name, given in (("constants", constants), ("states", states)):
        if given is not None and not isinstance(given, Mapping):
            raise EdgekitError(f"{name} must be a dict by the names of inputs, not {given!r}")
    output = _follow(Path(output))
    check_output(output, _paths(*inputs))
    profile = load_profile(target)
    forms = _choose_forms(format, profile)
    if quantize in (WIDE, *FLOAT_ARITHMETICS) and forms != (TFLITE,):
        raise EdgekitError(f"quantize={quantize!r} is for format='tflite' alone")
    check_pruning(pruning, forms, len(sizes))
    if layer_formats and quantize in (WIDE, *FLOAT_ARITHMETICS):
        raise EdgekitError(f"formats of single layers do not go with quantize={quantize!r}")
    if ONNX in forms:
        check_engine(profile, onnx_style or profile.onnx_style)
    _check_reach(
        forms,
        {
            "onnx_style": onnx_style,
            "labels": labels,
            "states": states,
            "max_ms": max_ms,
            "max_mb": max_mb,
            "sign_with": sign_with,
            "model_license": model_license,
            "slim": slim,
            "library": library,
        },
    )
    key = read_key(sign_with)
    if tune and (profile.isa != "auto" or NATIVE not in forms):
        raise EdgekitError(
            f"tune measures the native form on this machine: it needs target='host' and format='native', "
            f"not {profile.name} and {' and '.join(forms)}"
        )
    if tune and len(sizes) > 1:
        raise EdgekitError("tune measures one size: give shapes for one")
    return Request(
        profile=profile,
        forms=forms,
        output=output,
        sizes=sizes,
        quantize=quantize,
        precision=precision,
        formats=layer_formats,
        ranges=ranges,
        rounding=rounding,
        recover=passes,
        pruning=pruning,
        onnx_style=onnx_style or profile.onnx_style,
        preprocessing=preprocessing,
        constants=constants,
        states=dict(states or {}),
        labels=labels,
        batch=batch,
        threads=threads,
        tune=tune,
        release=Release(release, limits, key),
        compilation=Compilation(slim, library),
        model_license=model_license or "",
    )


def _follow(output: Path) -> Path:
    """Returns what ``output`` names where it is a link: that is written, and the link is not replaced."""
    if not output.is_symlink():
        return output
    try:
        return output.resolve()
    except (OSError, RuntimeError) as error:
        raise EdgekitError(f"{output}: cannot be written: its links lead nowhere") from error


def _paths(*sources: Any) -> list[Path]:
    """Returns those of ``sources`` that are paths."""
    return [Path(source) for source in sources if isinstance(source, (str, os.PathLike))]


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise EdgekitError(
            f"{name}={value!r} is not supported; this version knows: {', '.join(choices)}"
        )


def _choose_forms(format: str | Sequence[str] | None, profile: Profile) -> tuple[str, ...]:
    wanted = (profile.default_form,) if format is None else format
    if not isinstance(wanted, (str, Sequence)):
        raise EdgekitError(f"format must be a name or names, not {wanted!r}")
    formats = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    if not formats:
        raise EdgekitError('format must name "native", "onnx" or "tflite", or several of them')
    for name in formats:
        _check_choice("format", name, (NATIVE, ONNX, TFLITE))
        if name not in profile.forms:
            raise TargetError(
                f"{profile.name} takes {' and '.join(profile.forms)}, not the form '{name}'"
            )
    return formats


def _check_reach(formats: tuple[str, ...], given: Mapping[str, object]) -> None:
    """Refuses an argument that no form of ``formats`` would heed."""
    forms = {"onnx_style": (ONNX,), "labels": (NATIVE, TFLITE)}
    for name, value in given.items():
        wanted = forms.get(name, (NATIVE,))
        if value and not set(wanted) & set(formats):
            raise EdgekitError(
                f"{name} is for format={' or '.join(map(repr, wanted))}, which is not asked for: "
                f"{' and '.join(formats)}"
            )
