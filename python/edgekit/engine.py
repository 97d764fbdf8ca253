"""The files that make a TensorRT engine on the board: a script, what it has to know, and a form for DLA."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from edgekit.converters.quantization import ActivationQuantization, get_quantization
from edgekit.converters.write_onnx import get_style, write_onnx
from edgekit.engine_files import DLA_FILE, DLA_RANGES, SCRIPT, SETTINGS
from edgekit.targets.errors import TargetError
from edgekit.targets.profile import ENGINES_DIR, Profile


def check_engine(profile: Profile, style: str) -> None:
    """Checks that the board's GPU can run what ``style`` writes.

    Raises:
        TargetError: Its GPU has no int8.
    """
    gpu = profile.gpu
    if get_style(style).symmetric and gpu is not None and not gpu.has_int8:
        raise TargetError(
            f"{profile.name}: its GPU, of compute capability {gpu.compute_capability}, does not compute int8: "
            "take the ONNX style tensorrt-float, which runs in float16"
        )


def write_engine_files(
    quantized: ir.Model, folder: Path, profile: Profile, style: str
) -> dict[str, Path]:
    """Writes what belongs beside an ONNX form for TensorRT; returns the files by their names in a deployment.

    Where the board has DLA cores, the network is written for them as well: DLA takes no QuantizeLinear, but float
    operators and a table of scales, one for each value: its name and the bits of the float32, in hexadecimal.

    Raises:
        ModelError: A node is newer than the board's TensorRT.
    """
    if get_style(style).engine != "tensorrt":
        return {}
    gpu = profile.gpu
    cores = 0 if gpu is None or gpu.dla_cores is None else gpu.dla_cores
    precision = "int8" if get_style(style).symmetric else "fp16"
    settings = folder / SETTINGS
    settings.write_text(f"precision={precision}\ndla_cores={cores}\n", encoding="utf-8")
    files = {SCRIPT: ENGINES_DIR / SCRIPT, SETTINGS: settings}
    if cores and precision == "int8":
        opset = None if gpu is None else gpu.onnx_opset
        files[DLA_FILE] = write_onnx(
            quantized, folder / DLA_FILE, style="tensorrt-float", most_opset=opset
        )
        files[DLA_RANGES] = folder / DLA_RANGES
        files[DLA_RANGES].write_text(_list_scales(quantized), encoding="utf-8")
    return files


def _list_scales(model: ir.Model) -> str:
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    lines = []
    for value in values:
        record = get_quantization(value)
        if isinstance(record, ActivationQuantization):
            bits = int(record.scale.view("uint32"))
            lines.append(f"{value.name}: {bits:08x}\n")
    return "".join(lines)
