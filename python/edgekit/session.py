"""Sessions: one way to run a network, whether it is a native plan or an ONNX file."""

from __future__ import annotations

import abc
import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
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
    """

    path: Path
    threads: int
    inputs: list[InputSpec]
    outputs: list[str]

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
        wanted = [spec.name for spec in self.inputs]
        if not isinstance(inputs, Mapping):
            if len(wanted) != 1:
                raise EdgekitError(
                    f"{self.path}: takes {len(wanted)} inputs ({', '.join(wanted)}): give a dict"
                )
            inputs = {wanted[0]: inputs}
        if set(inputs) != set(wanted):
            raise EdgekitError(
                f"{self.path}: the inputs are {', '.join(wanted)}, not {', '.join(map(str, inputs)) or 'none'}"
            )
        try:
            arrays = {name: np.asarray(array) for name, array in inputs.items()}
        except ValueError as error:
            raise EdgekitError(f"{self.path}: an input is not an array: {error}") from error
        return {spec.name: self._convert(arrays[spec.name], spec) for spec in self.inputs}

    def _convert(self, array: npt.NDArray[Any], spec: InputSpec) -> npt.NDArray[Any]:
        """Returns ``array`` in the input's dtype: any number becomes floating point, nothing else is converted."""
        if spec.dtype not in _ONNX_DTYPES.values() or array.dtype.name == spec.dtype:
            return array
        if array.dtype.kind not in "fiu" or np.dtype(spec.dtype).kind != "f":
            raise EdgekitError(
                f"{self.path}: input '{spec.name}' takes {spec.dtype}, not {array.dtype}: convert it"
            )
        return array.astype(spec.dtype)

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
        shape = plan.inputs[0].shape
        self._batch = shape[0] if shape else 1

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
            raise EdgekitError(f"{self.path}: ONNX Runtime cannot run it: {error}") from error
        return dict(zip(self.outputs, values, strict=True))


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
    """Makes a session from a plan, an ONNX file, or a bundle that `deploy` wrote.

    Args:
        path: A ``.plan`` or ``.onnx`` file, or a bundle's folder.
        threads: Threads that one run may use.

    Raises:
        PlanError: The plan or bundle is damaged, or was made for an instruction set that this CPU lacks.
        ModelError: ONNX Runtime cannot load the file.
        EdgekitError: There is no such file, or it is none of these.
    """
    path = Path(path)
    check_threads(threads)
    if path.is_dir():
        path = _find_in_bundle(path)
    if not path.is_file():
        raise EdgekitError(f"{path}: no such file")
    if path.suffix == ".onnx":
        return OnnxSession(path, threads)
    if path.suffix == ".plan":
        return NativeSession(path, _native.Plan.open(path), threads)
    raise EdgekitError(f"{path}: not a .plan, an .onnx or a bundle's folder")


def _find_in_bundle(folder: Path) -> Path:
    """Returns the network inside a bundle."""
    found = [path for name in ("model.plan", "model.onnx") if (path := folder / name).is_file()]
    if not found:
        raise PlanError(f"{folder}: not a bundle: holds neither model.plan nor model.onnx")
    return found[0]
