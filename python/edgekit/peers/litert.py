"""LiteRT (TensorFlow Lite) with its XNNPACK delegate.

The model comes from onnx2tf with the inputs kept in the model's own layout. int8 follows LiteRT's quantizer (formerly
AI Edge Quantizer), recipe "static_wi8_ai8": weights for each channel and activations in int8; inputs and outputs of
the network stay float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgekit.converters.quiet_delegate import spend_greeting
from edgekit.data import Sample
from edgekit.peers.contestant import (
    Contestant,
    Outputs,
    Package,
    Prepared,
    Problem,
    Run,
    Signature,
    Value,
)

_BORDERS = frozenset({"QUANTIZE", "DEQUANTIZE", "DELEGATE"})


class LiteRt(Contestant):
    """LiteRT's interpreter, whose default delegate on a CPU is XNNPACK."""

    runtime = "LiteRT"
    packages = (
        Package("ai_edge_litert", "ai-edge-litert"),
        Package("litert_quantizer", "litert-quantizer"),
        Package("onnx2tf", "onnx2tf"),
        Package("onnxsim", "onnxsim"),
    )

    def load_library(self) -> None:
        """Imports the interpreter, not the converter."""
        import ai_edge_litert.interpreter  # noqa: F401

    def prepare(self, problem: Problem) -> Prepared:
        """Converts with onnx2tf, and quantizes with LiteRT's quantizer."""
        import onnx2tf
        import onnxsim

        folder, plain = problem.folder / "float", problem.folder / "model.onnx"
        simplified, _ = onnxsim.simplify(str(problem.model))
        onnx.save(simplified, plain)
        onnx2tf.convert(
            input_onnx_file_path=str(plain),
            output_folder_path=str(folder),
            keep_shape_absolutely_input_names=[spec.name for spec in problem.signature.inputs],
            non_verbose=True,
        )
        file = next(folder.glob("*_float32.tflite"))
        if self.form == "float":
            return Prepared(file, "onnxsim, onnx2tf (flatbuffer_direct)")
        from litert_quantizer import recipe

        return Prepared(
            quantize(file, problem, recipe.static_wi8_ai8()),
            "onnxsim, onnx2tf, litert_quantizer static_wi8_ai8, float borders",
        )

    def open(self, file: Path, signature: Signature, threads: int) -> Run:
        """Makes an interpreter."""
        interpreter = _open(file, threads)
        inputs = _match(interpreter.get_input_details(), signature.inputs)
        outputs = _match(interpreter.get_output_details(), signature.outputs)

        def run(sample: Sample) -> Outputs:
            for name, index in inputs.items():
                interpreter.set_tensor(index, sample[name])
            interpreter.invoke()
            return [
                _put_channels_first(interpreter.get_tensor(outputs[spec.name]), spec)
                for spec in signature.outputs
            ]

        return run

    def count_integer(self, file: Path) -> tuple[int, int] | None:
        """Counts the operators of the file whose results are int8."""
        if self.form == "float":
            return None
        interpreter = _open(file, 1, delegate=False)
        int8 = {
            detail["index"]
            for detail in interpreter.get_tensor_details()
            if detail["dtype"] is np.int8
        }
        operators = [
            operator
            for operator in interpreter._get_ops_details()
            if operator["op_name"] not in _BORDERS
        ]
        integer = sum(any(index in int8 for index in operator["outputs"]) for operator in operators)
        return integer, len(operators)


def quantize(file: Path, problem: Problem, rules: Any) -> Path:
    """Quantizes a float TFLite with LiteRT's quantizer; inputs and outputs stay float.

    Args:
        file: What onnx2tf made.
        problem: Whose samples calibrate.
        rules: A recipe of ``litert_quantizer``.

    Returns:
        The file that was written to the problem's folder.
    """
    from litert_quantizer import quantizer
    from litert_quantizer.recipe_manager import AlgorithmName

    work = quantizer.Quantizer(str(file))
    work.load_quantization_recipe(rules)
    for border in ("INPUT", "OUTPUT"):
        work.update_quantization_recipe(
            ".*", quantizer.qtyping.TFLOperationName(border), None, AlgorithmName.NO_QUANTIZE
        )
    key, names = _read_signature(file)
    samples = [
        {names[spec.name]: sample[spec.name] for spec in problem.signature.inputs}
        for sample in problem.samples
    ]
    result = work.quantize(work.calibrate({key: samples}))
    quantized = problem.folder / "model.tflite"
    result.export_model(str(quantized), overwrite=True)
    return quantized


def _open(file: Path, threads: int, *, delegate: bool = True) -> Any:
    from ai_edge_litert import interpreter as package

    spend_greeting(package)
    kinds = package.OpResolverType
    resolver = kinds.AUTO if delegate else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = package.Interpreter(
        str(file), num_threads=threads, experimental_op_resolver_type=resolver
    )
    interpreter.allocate_tensors()
    return interpreter


def _read_signature(file: Path) -> tuple[str, dict[str, str]]:
    """Returns the signature's key and its inputs by the model's names."""
    signatures = _open(file, 1).get_signature_list()
    key = next(iter(signatures))
    return key, {_strip(name): name for name in signatures[key]["inputs"]}


def _strip(name: str) -> str:
    """Returns a tensor's name without what converters add.

    >>> _strip("serving_default_image:0")
    'image'
    """
    return name.removeprefix("serving_default_").partition(":")[0]


def _put_channels_first(array: npt.NDArray[Any], spec: Value) -> npt.NDArray[Any]:
    """Returns an output in the model's layout; onnx2tf leaves maps with their channels last."""
    if array.shape == spec.shape or array.ndim < 3:
        return array
    planes = np.moveaxis(array, -1, 1)
    return np.ascontiguousarray(planes) if planes.shape == spec.shape else array


def _match(details: list[dict[str, Any]], specs: tuple[Value, ...]) -> dict[str, int]:
    """Returns the interpreter's tensor of each input or output, by name, or by order where names were lost."""
    by_name = {_strip(detail["name"]): detail["index"] for detail in details}
    if all(spec.name in by_name for spec in specs):
        return {spec.name: by_name[spec.name] for spec in specs}
    return {spec.name: detail["index"] for spec, detail in zip(specs, details, strict=True)}
