"""Makes the report of a deployment from its files."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgekit import _native
from edgekit.choosing.closest import Candidate, to_decibels
from edgekit.choosing.goal import TOLD_CHANGED, WANTED_SNR_DB
from edgekit.choosing.precision import Contest
from edgekit.converters.fusion import report_fusion
from edgekit.converters.lower import lower
from edgekit.converters.onnx_file import size_of_onnx
from edgekit.converters.quantizable import LAYERS
from edgekit.converters.quantization import has_int8_rows
from edgekit.converters.quantize import INT8_WEIGHTS, get_report
from edgekit.converters.read_model import Source
from edgekit.converters.size_names import describe_shapes
from edgekit.converters.write_onnx import get_style
from edgekit.costs.cost_model import MEASURED_ON, count_products
from edgekit.data import Samples
from edgekit.forms import ONNX, TFLITE, Forms, Recipe
from edgekit.interpreter import find_interpreter, list_delegated, open_interpreter
from edgekit.report import Accuracy, Fusion, Layer, Memory, Precision, Report, Size, Tflite
from edgekit.targets.errors import ModelError, ToolError
from edgekit.timing import describe_machine

_VERSIONED = ("edgekit", "numpy", "onnx", "onnx-ir", "onnxruntime")


def list_versions() -> dict[str, str]:
    """Returns the versions of what has a part in a deployment."""
    return {name: importlib.metadata.version(name) for name in _VERSIONED}


def describe(
    source: Source,
    samples: Samples,
    recipe: Recipe,
    best: Candidate,
    accuracy: Accuracy | None,
    contest: Contest | None = None,
) -> Report:
    """Returns the report of ``best``, without latencies.

    Args:
        source: The float model.
        samples: The calibration samples.
        recipe: What was built.
        best: The forms and how they compare with float.
        accuracy: What the caller measured, if anything.
        contest: How the precision of each layer was chosen, None where int8 was asked for.
    """
    forms = best.forms
    kept = _list_kept(forms, contest)
    fusion, unknown = _describe_fusion(forms, recipe.onnx_style, kept)
    return Report(
        model=source.name,
        source_digest=recipe.source_digest,
        target=recipe.profile.name,
        isa=recipe.isa if forms.plan else ONNX if forms.onnx else TFLITE,
        batch=recipe.batch,
        calibration=samples.description,
        ranges="" if recipe.is_real else str(forms.ranges),
        machine=describe_machine(),
        versions=list_versions(),
        sizes=_list_sizes(source, forms, recipe),
        memory=None if forms.plan is None else describe_memory(forms.plan),
        layers=_list_layers(forms, recipe, contest),
        precision=_describe_precision(forms, recipe, contest),
        onnx_arithmetic=get_style(recipe.onnx_style).arithmetic if forms.onnx else None,
        fusion=fusion,
        tflite=_describe_tflite(forms, recipe, kept),
        accuracy=accuracy,
        snr_db=best.snr_db,
        agreement=best.agreement,
        notes=[
            *source.notes,
            *_note_sizes(forms, recipe),
            *_note_gain(recipe, contest),
            *_note_recurrent(forms, recipe),
            *_note_speed(recipe, contest),
            *_note_noise(best, accuracy, contest, recipe),
            *_note_weights(forms, recipe),
            *unknown,
        ],
    )


def _note_gain(recipe: Recipe, contest: Contest | None) -> list[str]:
    """Returns what float32 layers did, and in which forms."""
    if contest is None or not contest.gain:
        return []
    return [f"{contest.gain} ({' and '.join(recipe.formats)})"]


def _note_speed(recipe: Recipe, contest: Contest | None) -> list[str]:
    """Returns on which device the speed was measured by which layers were chosen, where it was."""
    source = recipe.profile.speed.source.get("int8_products", "")
    if contest is None or contest.how != "modelled" or not source.startswith(MEASURED_ON):
        return []
    return [f"layers were chosen by the speed of {recipe.profile.name}, {source}"]


def _list_kept(forms: Forms, contest: Contest | None) -> dict[str, str]:
    """Returns why nodes are float32 that int8 could hold, those that go with them included."""
    if contest is None or not contest.keep_float:
        return {}
    chosen = set(contest.keep_float.values())
    report = get_report(forms.written)
    return {node.name: node.reason for node in report.float_nodes if node.reason in chosen}


def _note_weights(forms: Forms, recipe: Recipe) -> list[str]:
    """Returns what the ONNX form's weights are like for a CPU on which sums of two products saturate."""
    if not recipe.narrow_weights:
        return []
    why = f"on {recipe.profile.name} ONNX Runtime adds two products in 16 bits, which saturate"
    if not forms.ranges.narrow_weights:
        return [f"{why}: the model's own weights may do so, `edgekit doctor` names the layers"]
    narrowed = get_report(forms.written).narrowed
    channels = sum(map(len, narrowed.values()))
    return [
        f"{why}: the weights of {channels} channels of {len(narrowed)} layers have a wider scale, of which no two can"
    ]


def _note_recurrent(forms: Forms, recipe: Recipe) -> list[str]:
    """Returns which recurrent layers hold int8 weights, in any form but TensorRT's."""
    names = _list_recurrent(forms)
    if not names or (
        recipe.formats == (ONNX,) and get_style(recipe.onnx_style).engine == "tensorrt"
    ):
        return []
    return [f"int8 weights and float32 states: {', '.join(names)}"]


def _note_sizes(forms: Forms, recipe: Recipe) -> list[str]:
    """Returns which sizes there are, where there are several, and what they take in the native form."""
    if not recipe.sizes:
        return []
    first = {str(value.name): value.shape for value in forms.quantized.graph.inputs}
    sizes = [
        {
            name: [dim if isinstance(dim, int) else None for dim in shape or ()]
            for name, shape in size.items()
        }
        for size in (first, *(binding.inputs for binding in recipe.sizes))
    ]
    note = f"{len(sizes)} sizes: {'; '.join(map(describe_shapes, sizes))}; the first is the one that is measured"
    if forms.summary is None:
        return [note]
    own = forms.summary.file_size - forms.summary.shared_size
    kept = f"weights are stored once: {forms.summary.shared_size / 1e6:.3g} MB"
    return [
        note,
        f"{kept}, and {own / 1e3:.3g} kB for the graphs of all sizes and what else is their own",
    ]


def _note_noise(
    best: Candidate, accuracy: Accuracy | None, contest: Contest | None, recipe: Recipe
) -> list[str]:
    """Returns what must be said of answers that are not the float model's."""
    few = best.changed is None or best.changed <= TOLD_CHANGED
    if accuracy is not None or (few and to_decibels(best.plain_noise) >= WANTED_SNR_DB):
        return []
    note = f"ANSWERS DIFFER: of the worst output {best.snr_db:.1f} dB are left, {WANTED_SNR_DB:.0f} are wanted"
    if best.changed is not None:
        share = f"{100 * best.changed:.2f} % of the answers are others than float's"
        note = f"ANSWERS DIFFER: {share}; {best.snr_db:.1f} dB are left"
    if recipe.is_real:
        return [f"{note}; int8 ranges and layers are chosen for the answers, these weights are not"]
    if contest is None:
        return [f"{note}; precision 'auto' leaves layers in float32 where that is worth it"]
    return [f"{note}; {contest.note}" if contest.note else note]


def _list_sizes(source: Source, forms: Forms, recipe: Recipe) -> list[Size]:
    label = f"{'int8' if source.records else 'float'}, {source.kind}"
    if source.path != source.reference:
        label += ", as given"
    elif source.kind != "ONNX":
        label += ", as exported"
    files = {
        label: source.path,
        f"{get_style(recipe.onnx_style).arithmetic}, ONNX": forms.onnx,
        f"{recipe.quantize}, TFLite": forms.tflite and forms.tflite.path,
        "int8, native": forms.plan,
    }
    return [Size(form, size_of_onnx(path)) for form, path in files.items() if path]


def describe_memory(path: Path) -> Memory:
    """Returns what sessions of a plan hold."""
    plan = _native.Plan.open(path)
    needs = plan.memory
    return Memory(
        plan_bytes=needs.plan,
        arena_bytes=needs.arena,
        lower_bound_bytes=plan.arena_lower_bound,
        scratch_bytes=needs.scratch,
        external_bytes=needs.external,
    )


def _list_layers(forms: Forms, recipe: Recipe, contest: Contest | None) -> list[Layer]:
    if forms.plan is None:
        return []
    plan = _native.Plan.open(forms.plan)
    compared = {} if contest is None else contest.layers
    reasons = {node.name: node.reason for node in get_report(forms.written).float_nodes}
    recurrent = _list_recurrent(forms)
    layers = []
    for op in plan.ops:
        int8, real = compared.get(op.name, (None, None))
        # Recurrent layers are steps, each by its node's name and its own.
        (node,) = _join_steps([op.name], recurrent)
        is_real = op.kind.startswith("Float")
        asked = recipe.layer_formats.get(node)
        number_format = "float32" if is_real else "int8" if op.kernel else ""
        layers.append(
            Layer(
                op.name,
                op.kind,
                op.kernel,
                op.output.shape,
                int8_microseconds=int8,
                float_microseconds=real,
                format=number_format if asked is None else asked.value,
                reason=reasons.get(node, "") if is_real else "",
            )
        )
    return layers


def _describe_precision(forms: Forms, recipe: Recipe, contest: Contest | None) -> Precision | None:
    program = forms.program
    if program is None and contest is not None and contest.costs is not None:
        # What other forms hold, as the native form would have it; not if dimensions are open.
        with contextlib.suppress(ModelError):
            program = lower(forms.written, recipe.batch)
    if program is None:
        return None
    products = [count_products(program, op) for op in program.ops]
    real = [op.kind.startswith("Float") for op in program.ops]
    total = sum(products)
    integer = sum(count for count, is_real in zip(products, real, strict=True) if not is_real)
    kept = {} if contest is None else contest.keep_float
    names = [op.name for op in program.ops if op.kind.startswith("Float")]
    recurrent = _list_recurrent(forms)
    names = _join_steps(names, recurrent)
    kept = {**kept, **dict.fromkeys(recurrent, INT8_WEIGHTS)}
    return Precision(
        forms=recipe.formats,
        chosen="int8" if contest is None else contest.chosen,
        how="asked for" if contest is None else contest.how or contest.note,
        int8_share=integer / total if total else float(not any(real)),
        float_layers=[f"{name}: {kept[name]}" if name in kept else name for name in names],
        milliseconds={} if contest is None else dict(contest.milliseconds),
    )


def _list_recurrent(forms: Forms) -> list[str]:
    """Returns the names of recurrent nodes whose weights are int8."""
    return [node.name or "" for node in forms.written.graph if has_int8_rows(node)]


def _join_steps(names: Sequence[str], nodes: Sequence[str]) -> list[str]:
    """Returns ``names`` of operators with all of each of the recurrent ``nodes`` as one."""

    def owner(name: str) -> str:
        return next((node for node in nodes if name.startswith(f"{node}:")), name)

    return list(dict.fromkeys(owner(name) for name in names))


def _describe_tflite(forms: Forms, recipe: Recipe, kept: Mapping[str, str]) -> Tflite | None:
    if forms.tflite is None:
        return None
    opened = open_interpreter(forms.tflite.path, recipe.threads)
    delegated, left = list_delegated(opened)
    return Tflite(
        arithmetic=recipe.quantize,
        runtime=f"{find_interpreter()}'s interpreter on {platform.machine()}",
        operators=dict(Counter(forms.tflite.operators)),
        transposes=forms.tflite.transposes,
        delegated=delegated,
        left=dict(Counter(left)),
        left_float=[f"{name}: {reason}" for name, reason in kept.items()],
    )


def _describe_fusion(
    forms: Forms, style: str, kept: Mapping[str, str]
) -> tuple[Fusion | None, list[str]]:
    """Returns what the engine makes of the ONNX form, or a note why that is not known.

    Args:
        forms: The files.
        style: Of the ONNX form.
        kept: By node, why it was left float32, which is then what is said of it.
    """
    if forms.onnx is None or style == "tensorrt-float":
        return None, []
    try:
        report = report_fusion(forms.onnx, style)
    except ToolError as error:
        return None, [f"what becomes of the ONNX form was not looked at: {error}"]
    fusion = Fusion(
        runtime=report.runtime,
        fused=dict(Counter(node.op_type for node in report.fused)),
        left_float=[
            f"{node.name} ({node.op_type}): {kept.get(node.name, node.reason)}"
            for node in report.left_float
            # Nothing but products of weights was to leave the floats.
            if not get_style(style).is_real or node.op_type in LAYERS
        ],
    )
    return fusion, []
