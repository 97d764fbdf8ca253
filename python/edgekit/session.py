"""Sessions: one way to run a network, whether it is a native plan, an ONNX file or a TFLite file."""

from __future__ import annotations

import abc
import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from edgekit import _native
from edgekit.data import InputSpec
from edgekit.targets.errors import EdgekitError, ModelError, PlanError

Inputs = Mapping[str, npt.ArrayLike] | npt.NDArray[Any]


class Session(abc.ABC):
    """A network that is ready to run. Safe to use from one thread at a time.

    Attributes:
        path: The file that it was loaded from.
        threads: Threads that one run may use.
        inputs: What it takes; a None in a shape is a dimension that may have any size.
        outputs: Names of what it gives.
        states: By input, the output of one run that it takes in the next. Such an input need not be given: it is zeros
            in the first run and after `reset`.
    """

    path: Path
    threads: int
    inputs: list[InputSpec]
    outputs: list[str]
    states: Mapping[str, str] = MappingProxyType({})

    def reset(self) -> None:
        """Makes all states zeros; without states there is nothing to do."""
        return

    def run(self, inputs: Inputs) -> dict[str, npt.NDArray[Any]]:
        """Returns the outputs by name.

        Args:
            inputs: Arrays by input, or one array for a network with one input.

        Raises:
            EdgekitError: An input is missing, unknown, or has the wrong shape or type.
        """
        return self._run(inputs if self._fits(inputs) else self._name(inputs))

    def _fits(self, inputs: Inputs) -> TypeGuard[dict[str, npt.NDArray[Any]]]:
        """Returns whether these are arrays of the right names and dtypes; small networks have no time to convert."""
        if type(inputs) is not dict or len(inputs) != len(self._dtypes):
            return False
        for name, dtype in self._dtypes.items():
            array = inputs.get(name)
            if type(array) is not np.ndarray or array.dtype != dtype:
                return False
        return True

    @cached_property
    def _dtypes(self) -> dict[str, np.dtype[Any] | None]:
        """The inputs' dtypes by name, None where numpy has none of that name."""
        known = _ONNX_DTYPES.values()
        return {
            spec.name: np.dtype(spec.dtype) if spec.dtype in known else None for spec in self.inputs
        }

    def _name(self, inputs: Inputs) -> dict[str, npt.NDArray[Any]]:
        wanted = [spec.name for spec in self.inputs if spec.name not in self.states]
        if not isinstance(inputs, Mapping):
            if len(wanted) != 1:
                raise EdgekitError(
                    f"{self.path}: takes {len(wanted)} inputs ({', '.join(wanted)}): give a dict"
                )
            inputs = {wanted[0]: inputs}
        if set(inputs) - self.states.keys() != set(wanted):
            raise EdgekitError(
                f"{self.path}: the inputs are {', '.join(wanted)}, not {', '.join(map(str, inputs)) or 'none'}"
            )
        try:
            arrays = {name: np.asarray(array) for name, array in inputs.items()}
        except ValueError as error:
            raise EdgekitError(f"{self.path}: an input is not an array: {error}") from error
        return {
            spec.name: self._convert(arrays[spec.name], spec)
            for spec in self.inputs
            if spec.name in arrays
        }

    def _convert(self, array: npt.NDArray[Any], spec: InputSpec) -> npt.NDArray[Any]:
        """Returns ``array`` in the input's dtype: any number becomes floating point, nothing else is converted."""
        if spec.dtype not in _ONNX_DTYPES.values() or array.dtype.name == spec.dtype:
            return array
        if array.dtype.kind not in "fiu" or np.dtype(spec.dtype).kind != "f":
            raise EdgekitError(
                f"{self.path}: input '{spec.name}' takes {spec.dtype}, not {array.dtype}: convert it"
            )
        return array.astype(spec.dtype)

    def _check_shapes(self, inputs: Mapping[str, npt.NDArray[Any]]) -> None:
        """Checks shapes where a runtime failed: it may not name the input, or speak of the file's own order.

        Raises:
            EdgekitError: An input's shape is wrong.
        """
        for spec in self.inputs:
            array = inputs.get(spec.name)
            if array is not None and not spec.takes(array.shape):
                raise EdgekitError(
                    f"{self.path}: input '{spec.name}' takes shape {spec.describe_shape()}, not {list(array.shape)}"
                )

    @abc.abstractmethod
    def _run(self, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]: ...


class NativeSession(Session):
    """Runs a plan with edgekit's own runtime.

    Attributes:
        plan: The plan, which other sessions may share.
        native: The session of the native module: traces, digests and profiles.
    """

    def __init__(self, path: Path, plan: _native.Plan, threads: int) -> None:
        self.path = path
        self.threads = threads
        self.plan = plan
        try:
            self.native = _native.Session(plan, threads=threads)
        except EdgekitError as error:
            raise type(error)(f"{path}: {error}") from error
        if self.native.pinning_problem:
            warnings.warn(f"{path}: {self.native.pinning_problem}", stacklevel=3)
        # The leading dimension may be any multiple of the plan's; where inputs differ in it, it is no batch of theirs.
        is_batch = len({info.shape[0] for info in plan.inputs if info.shape}) == 1
        self.inputs = [
            InputSpec(
                info.name,
                (None, *info.shape[1:]) if is_batch and info.shape else tuple(info.shape),
                np.dtype(info.dtype).name,
            )
            for info in plan.inputs
        ]
        self.outputs = [info.name for info in plan.outputs]
        self.states = plan.states
        shape = plan.inputs[0].shape
        self._batch = shape[0] if shape else 1

    def reset(self) -> None:
        """Makes all states zeros."""
        self.native.reset()

    def _run(self, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        batch = self._batch
        if batch == 1:
            return self.native.run(inputs)
        given = {len(array) for array in inputs.values() if array.ndim}
        count = given.pop() if len(given) == 1 else 0
        spare = -count % batch
        if spare:
            # A part of a batch runs with its last sample repeated; what comes of that is cut off.
            inputs = {
                name: np.concatenate([array, np.repeat(array[-1:], spare, axis=0)])
                if array.ndim
                else array
                for name, array in inputs.items()
            }
        outputs = self.native.run(inputs)
        return {name: array[:count] if spare else array for name, array in outputs.items()}


class OnnxSession(Session):
    """Runs an ONNX file with ONNX Runtime on the CPU."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        self.path = path
        self.threads = threads
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # What fails is raised, and told once.
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own classes share no public base.
            raise ModelError(f"{path}: ONNX Runtime cannot load it: {error}") from error
        self.inputs = [
            InputSpec(
                info.name,
                tuple(n if isinstance(n, int) else None for n in info.shape),
                _ONNX_DTYPES.get(info.type, info.type),
            )
            for info in self._session.get_inputs()
        ]
        self.outputs = [info.name for info in self._session.get_outputs()]

    def _run(self, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        try:
            values = self._session.run(self.outputs, inputs)
        except Exception as error:  # ONNX Runtime's own classes share no public base.
            self._check_shapes(inputs)
            raise EdgekitError(f"{self.path}: ONNX Runtime cannot run it: {error}") from error
        return dict(zip(self.outputs, values, strict=True))


class TfliteSession(Session):
    """Runs a TFLite file with LiteRT, or the TensorFlow Lite interpreter before it.

    What edgekit wrote is run as the other forms are: images in the source model's order, whichever order they have in
    the file, and a leading dimension that may be any multiple of the file's.
    """

    def __init__(self, path: Path, threads: int) -> None:
        from edgekit.interpreter import open_interpreter, read_facts

        self.path = path
        self.threads = threads
        self._interpreter = open_interpreter(path, threads)
        facts = read_facts(path)
        self._channels_last = set(facts.get("channels_last", ()))
        self._batch: int | None = facts.get("batch")
        self._sources, self._results = self._find_borders()
        self.inputs = [self._describe(name) for name in self._sources]
        self.outputs = list(self._results)

    def _find_borders(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the details of inputs and outputs, by the names that the only signature gives them."""
        signatures = self._interpreter.get_signature_list()
        if len(signatures) != 1:
            both = (self._interpreter.get_input_details(), self._interpreter.get_output_details())
            sources, results = ({str(info["name"]): info for info in infos} for infos in both)
            return sources, results
        ((key, names),) = signatures.items()
        runner = self._interpreter.get_signature_runner(key)
        sources, results = runner.get_input_details(), runner.get_output_details()
        return {name: sources[name] for name in names["inputs"]}, {
            name: results[name] for name in names["outputs"]
        }

    def _describe(self, name: str) -> InputSpec:
        info = self._sources[name]
        signature = info.get("shape_signature", info["shape"])
        shape = [None if size < 0 else int(size) for size in signature]
        if name in self._channels_last:
            shape = [shape[axis] for axis in (0, 3, 1, 2)]
        if self._batch is not None:
            shape[0] = None
        return InputSpec(name, tuple(shape), np.dtype(info["dtype"]).name)

    def _run(self, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        try:
            return self._run_parts(inputs)
        except EdgekitError:
            self._check_shapes(inputs)
            raise

    def _run_parts(self, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Returns the outputs of as many runs as the leading dimension takes."""
        batch = self._batch
        if batch is None:
            return self._invoke(inputs)
        counts = {len(array) for array in inputs.values() if array.ndim}
        if len(counts) != 1 or 0 in counts:
            raise EdgekitError(f"{self.path}: its inputs need one leading dimension of at least 1")
        (count,) = counts
        parts = []
        for first in range(0, count, batch):
            # The last part begins earlier where it would be too short; what it repeats is cut off.
            start = max(min(first, count - batch), 0)
            part = {name: array[start : start + batch] for name, array in inputs.items()}
            if count < batch:
                part = {
                    name: np.resize(array, (batch, *array.shape[1:]))
                    for name, array in part.items()
                }
            outputs = self._invoke(part)
            parts.append({name: array[first - start :] for name, array in outputs.items()})
        return {
            name: np.concatenate([part[name] for part in parts])[:count] for name in self.outputs
        }

    def _invoke(self, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        try:
            for name, array in inputs.items():
                info = self._sources[name]
                if name in self._channels_last and array.ndim == 4:
                    array = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
                if -1 in info.get("shape_signature", ()) and array.shape != tuple(info["shape"]):
                    self._interpreter.resize_tensor_input(info["index"], array.shape, strict=True)
                    self._interpreter.allocate_tensors()
                self._interpreter.set_tensor(info["index"], array)
            self._interpreter.invoke()
            outputs = {
                name: self._interpreter.get_tensor(info["index"])
                for name, info in self._results.items()
            }
        except (ValueError, RuntimeError) as error:
            raise EdgekitError(f"{self.path}: the interpreter cannot run it: {error}") from error
        for name in self._channels_last & outputs.keys():
            outputs[name] = np.ascontiguousarray(outputs[name].transpose(0, 3, 1, 2))
        return outputs


_ONNX_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


def check_threads(threads: int) -> None:
    """Checks a number of threads before any session is made with it.

    Raises:
        EdgekitError: It is not in [1, 1024], what the native runtime takes; ONNX Runtime would try any number.
    """
    if not isinstance(threads, int) or not 1 <= threads <= _native.MAX_THREADS:
        raise EdgekitError(
            f"threads must be at least 1 and at most {_native.MAX_THREADS}, not {threads!r}"
        )


def load(path: str | Path, *, threads: int = 1) -> Session:
    """Makes a session from a plan, an ONNX file, a TFLite file, or a bundle that `deploy` wrote.

    Args:
        path: A ``.plan``, ``.onnx`` or ``.tflite`` file, or a bundle's folder.
        threads: Threads that one run may use.

    Raises:
        PlanError: The plan or bundle is damaged, or was made for an instruction set that this CPU lacks.
        ModelError: ONNX Runtime or the TFLite interpreter cannot load the file.
        ToolError: No TFLite interpreter is installed.
        EdgekitError: There is no such file, or it is none of these.
    """
    path = Path(path)
    check_threads(threads)
    if path.is_dir():
        path = _find_in_bundle(path)
    if not path.is_file():
        raise EdgekitError(f"{path}: no such file")
    if path.suffix.lower() == ".onnx":
        return OnnxSession(path, threads)
    if path.suffix.lower() == ".plan":
        return NativeSession(path, _native.Plan.open(path), threads)
    if path.suffix.lower() == ".tflite":
        return TfliteSession(path, threads)
    raise EdgekitError(f"{path}: not a .plan, an .onnx, a .tflite or a bundle's folder")


def _find_in_bundle(folder: Path) -> Path:
    """Returns the network inside a bundle."""
    names = ("model.plan", "model.onnx", "model.tflite")
    found = [path for name in names if (path := folder / name).is_file()]
    if not found:
        raise PlanError(f"{folder}: not a bundle: holds none of {', '.join(names)}")
    return found[0]
