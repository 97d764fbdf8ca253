"""ONNX's own test cases (`onnx.backend.test`), and what the native runtime makes of them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit.onnx_backend import NativeBackend
from edgekit.targets.errors import EdgekitError

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator", "real")
PASSED, SKIPPED, FAILED = "passed", "skipped", "failed"
# Where Debian's libonnx-testdata keeps one folder a case, of older operator sets.
DEBIAN = Path("/usr/share/libonnx-testdata/data")
_LIGHT = "onnx/backend/test/data/light/"


@dataclass(frozen=True)
class Result:
    """What became of a case.

    Attributes:
        kind: One of ``KINDS``, or "debian".
        name: The case.
        operators: The operators of the model, each once, in order of their names.
        outcome: "passed", "skipped" or "failed".
        reason: The refusing error, or what is wrong; "" where it passed.
        bound: How many inputs became constants.
    """

    kind: str
    name: str
    operators: tuple[str, ...]
    outcome: str
    reason: str = ""
    bound: int = 0


@dataclass(frozen=True)
class Case:
    """A model, samples of inputs and outputs, and how close the outputs have to be."""

    kind: str
    name: str
    model: onnx.ModelProto
    samples: list[tuple[list[Any], list[Any]]]
    rtol: float
    atol: float


def load_cases(kind: str) -> Iterator[Case]:
    """Yields the cases of ``kind`` in order of their names, all from installed files."""
    if kind == "debian":
        for folder in sorted(DEBIAN.glob("**/test_*")):
            if (folder / "model.onnx").is_file():
                yield _read_case(kind, folder.name, folder, 1e-3, 1e-7)
        return
    for case in _find_cases(kind):
        if case.model is not None:
            yield Case(kind, case.name, case.model, list(case.data_sets), case.rtol, case.atol)
        elif case.model_dir is not None:
            yield _read_case(kind, case.name, Path(case.model_dir), case.rtol, case.atol)
        elif case.url and case.url.startswith(_LIGHT):
            yield _read_light(kind, case.name, case.url, case.rtol, case.atol)
        else:
            raise LookupError(f"{case.name}: is not installed with onnx")


@cache
def _find_cases(kind: str) -> list[Any]:
    """Returns ONNX's cases of a kind by name; it computes those of single nodes, which takes seconds."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sorted(load_model_tests(kind=kind), key=lambda case: case.name)


def run_case(case: Case) -> Result:
    """Runs a case as ONNX's runner does; never raises."""
    operators = tuple(sorted({_operator(node) for node in case.model.graph.node}))
    bound = 0

    def result(outcome: str, reason: str = "") -> Result:
        return Result(case.kind, case.name, operators, outcome, _plain(reason), bound)

    try:
        runnable = NativeBackend.prepare(case.model)
        for inputs, wanted in case.samples:
            outputs = runnable.run(inputs)
            assert runnable.prepared is not None
            bound = len(runnable.prepared.bound)
            wrong = _compare(wanted, outputs, case.rtol, case.atol)
            if wrong:
                return result(FAILED, wrong)
    except EdgekitError as error:
        return result(SKIPPED, str(error))
    except Exception as error:  # whatever it is, it is a defect of ours
        return result(FAILED, f"{type(error).__name__}: {error}")
    return result(PASSED)


def _plain(reason: str) -> str:
    """Returns an error in one line, without the place of the file that it is about."""
    return " ".join(re.sub(r"\S*model\.onnx: ", "", reason).split())


def _operator(node: onnx.NodeProto) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type


def _compare(wanted: list[Any], outputs: tuple[Any, ...], rtol: float, atol: float) -> str:
    from onnx.backend.test.runner import Runner

    arrays = [_array(value) for value in wanted]
    try:
        Runner.assert_similar_outputs(arrays, list(outputs), rtol=rtol, atol=atol)
    except AssertionError as error:
        return str(error) or "the outputs differ"
    return ""


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _read_case(kind: str, name: str, folder: Path, rtol: float, atol: float) -> Case:
    model = onnx.load(folder / "model.onnx")
    samples = []
    for sample in sorted(folder.glob("test_data_set*")):
        inputs, outputs = (
            [
                _read_value(path, value.type)
                for path, value in zip(
                    sorted(sample.glob(f"{part}_*.pb"), key=_number), values, strict=False
                )
            ]
            for part, values in (("input", _open_inputs(model)), ("output", model.graph.output))
        )
        samples.append((inputs, outputs))
    return Case(kind, name, model, samples, rtol, atol)


def _open_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    given = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in given]


def _number(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def _read_value(path: Path, type_: onnx.TypeProto) -> Any:
    data = path.read_bytes()
    if type_.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if type_.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def _read_light(kind: str, name: str, url: str, rtol: float, atol: float) -> Case:
    """Reads a network whose weights are made by ConstantOfShape; ONNX gives the answer to a ramp of inputs."""
    path = Path(onnx.__file__).parents[1] / url
    model = onnx.load(path)
    inputs = []
    for value in _open_inputs(model):
        shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
        size = int(np.prod(shape))
        inputs.append((np.arange(size).reshape(shape) / size).astype(np.float32))
    outputs = [
        _read_value(path.with_name(f"{path.stem}_output_{index}.pb"), value.type)
        for index, value in enumerate(model.graph.output)
    ]
    return Case(kind, name, model, [(inputs, outputs)], rtol, atol)
