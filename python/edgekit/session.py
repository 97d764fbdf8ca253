"""Sessions: one way to run a network, whether it is a native plan, an ONNX file or a TFLite file."""

from __future__ import annotations

import abc
import json
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from edgekit import _native
from edgekit.bundles.archive import is_bundle_file, unpacked
from edgekit.bundles.manifest import MANIFEST, refuse_locked
from edgekit.bundles.usage import Usage, read_usage
from edgekit.converters.size_names import SIZES_KEY
from edgekit.data import InputSpec, Preprocessing
from edgekit.pad import Size, describe_sizes, fits, pad_to_size
from edgekit.targets.errors import EdgekitError, ModelError, PlanError
from edgekit.tflite_networks import TfliteNetwork, open_networks

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
        sizes: Shapes by input, for each size that it was made for; the first dimension may be a multiple. Empty where
            sizes are open.
        usage: Of a bundle: names of classes, and how a picture becomes an input.
    """

    path: Path
    threads: int
    inputs: list[InputSpec]
    outputs: list[str]
    states: Mapping[str, str] = MappingProxyType({})
    sizes: Sequence[Size] = ()
    usage: Usage = Usage()

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes of the first output; empty where the bundle has none."""
        return self.usage.labels

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How a picture becomes an input, None where it is not known: ``session.preprocessing.read(path)``."""
        return self.usage.preprocessing

    def reset(self) -> None:
        """Makes all states zeros; without states there is nothing to do."""
        return

    def run(self, inputs: Inputs, *, pad: float | None = None) -> dict[str, npt.NDArray[Any]]:
        """Returns the outputs by name.

        Args:
            inputs: Arrays by input, or one array for a network with one input.
            pad: What to fill inputs up with, at the end of every dimension but the first, to the next of ``sizes``.
                Outputs are those of the filled inputs. None fills nothing: another size is an error.

        Raises:
            EdgekitError: An input is missing, unknown, or has the wrong shape or type, or none of the sizes.
        """
        arrays = inputs if self._fits(inputs) else self._name(inputs)
        if pad is not None:
            arrays = pad_to_size(arrays, self.sizes, pad)
        return self._run(arrays)

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
        self.sizes = [{info.name: tuple(info.shape) for info in size.inputs} for size in plan.sizes]
        # The leading dimension may be any multiple of the plan's; where inputs differ in it, it is no batch of theirs.
        is_batch = all(
            len({shape[0] for shape in size.values() if shape}) == 1 for size in self.sizes
        )
        self.inputs = [
            InputSpec(
                info.name,
                join_shapes([size[info.name] for size in self.sizes], is_batch),
                np.dtype(info.dtype).name,
            )
            for info in plan.inputs
        ]
        self.outputs = [info.name for info in plan.outputs]
        self.states = plan.states
        first = plan.inputs[0].name
        self._batches = [size[first][0] if size[first] else 1 for size in self.sizes]
        self._is_single = set(self._batches) == {1}

    def reset(self) -> None:
        """Makes all states zeros."""
        self.native.reset()

    def _run(self, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        if self._is_single:
            return self.native.run(inputs)
        given = {len(array) for array in inputs.values() if array.ndim}
        count = given.pop() if len(given) == 1 else 0
        spare = min(
            (
                -count % batch
                for size, batch in zip(self.sizes, self._batches, strict=True)
                if fits(inputs, size)
            ),
            default=0,
        )
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
        facts = self._session.get_modelmeta().custom_metadata_map
        self.sizes = _read_sizes(facts.get(SIZES_KEY, "[]"), self.inputs)

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
    the file, and a leading dimension that may be any multiple of the file's. Of a file with several sizes, each a
    signature of its own, the one that takes the inputs is called.
    """

    def __init__(self, path: Path, threads: int) -> None:
        from edgekit.interpreter import open_interpreter, read_facts

        self.path = path
        self.threads = threads
        interpreter = open_interpreter(path, threads)
        self._networks = open_networks(path, interpreter, read_facts(path))
        networks = self._networks
        if not any(None in spec.shape[1:] for network in networks for spec in network.inputs):
            self.sizes = [network.size for network in networks]
        self.inputs = [
            InputSpec(
                spec.name,
                join_shapes([network.inputs[index].shape for network in networks], False),
                spec.dtype,
            )
            for index, spec in enumerate(networks[0].inputs)
        ]
        self.outputs = networks[0].outputs

    def _run(self, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        try:
            return self._choose(inputs).run(inputs)
        except EdgekitError:
            if len(self._networks) == 1:
                self._check_shapes(inputs)
            raise

    def _choose(self, inputs: dict[str, npt.NDArray[Any]]) -> TfliteNetwork:
        """Returns the network that takes the inputs in the fewest runs."""
        if len(self._networks) == 1:
            return self._networks[0]
        able = [network for network in self._networks if fits(inputs, network.size)]
        if not able:
            given = describe_sizes([{name: array.shape for name, array in inputs.items()}])
            raise EdgekitError(
                f"{self.path}: no size takes {given}: there are {describe_sizes(self.sizes)}"
            )
        counts = {len(array) for array in inputs.values() if array.ndim}
        count = counts.pop() if len(counts) == 1 else 1
        return min(able, key=lambda network: network.count_runs(count))


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


def join_shapes(shapes: Sequence[tuple[int | None, ...]], is_batch: bool) -> tuple[int | None, ...]:
    """Returns the shape with None where ``shapes`` differ, and for the first dimension where that is a batch."""
    return tuple(
        None if len(set(dims)) > 1 or (is_batch and axis == 0) else dims[0]
        for axis, dims in enumerate(zip(*shapes, strict=True))
    )


def _read_sizes(text: str, inputs: Sequence[InputSpec]) -> list[Size]:
    """Returns the sizes that an ONNX file says it was made for, those of its inputs where they are fixed.

    What a file says of itself may be anything: sizes that its inputs cannot have are left out.
    """
    if not any(None in spec.shape[1:] for spec in inputs):
        return [{spec.name: _known(spec.shape) for spec in inputs}]
    try:
        rows = json.loads(text)
        sizes = [
            {spec.name: tuple(int(dim) for dim in row[spec.name]) for spec in inputs}
            for row in rows
        ]
    except (ValueError, TypeError, KeyError):
        return []
    return [
        size
        for size in sizes
        if all(
            len(size[spec.name]) == len(spec.shape)
            and all(
                have > 0 and want in (None, have)
                for have, want in zip(size[spec.name], spec.shape, strict=True)
            )
            for spec in inputs
        )
    ]


def _known(shape: Sequence[int | None]) -> tuple[int, ...]:
    """Returns ``shape`` with 1 for an open dimension, which is the first."""
    return tuple(1 if dim is None else dim for dim in shape)


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
        path: A ``.plan``, ``.onnx`` or ``.tflite`` file, or a bundle: its folder or its one file.
        threads: Threads that one run may use.

    Raises:
        PlanError: The plan or bundle is damaged, or was made for an instruction set that this CPU lacks.
        ModelError: ONNX Runtime or the TFLite interpreter cannot load the file.
        ToolError: No TFLite interpreter is installed.
        EdgekitError: There is no such file, or it is none of these.
    """
    path = Path(path)
    check_threads(threads)
    if is_bundle_file(path):
        return _load_bundle_file(path, threads)
    if path.is_dir():
        session = load(find_in_bundle(path), threads=threads)
        if (path / MANIFEST).is_file():
            session.usage = read_usage(path)
        return session
    if not path.is_file():
        raise EdgekitError(f"{path}: no such file")
    if path.suffix.lower() == ".onnx":
        return OnnxSession(path, threads)
    if path.suffix.lower() == ".plan":
        return NativeSession(path, _native.Plan.open(path), threads)
    if path.suffix.lower() == ".tflite":
        return TfliteSession(path, threads)
    raise EdgekitError(f"{path}: not a .plan, an .onnx, a .tflite or a bundle")


def _load_bundle_file(path: Path, threads: int) -> Session:
    """Makes a session of a bundle's one file. Its plan stays mapped when what was unpacked is gone."""
    with unpacked(path) as folder:
        session = load(folder, threads=threads)
    session.path = path
    return session


def find_in_bundle(folder: Path) -> Path:
    """Returns the network inside a bundle, the native form first.

    Raises:
        PlanError: There is none, or it is locked.
    """
    refuse_locked(folder)
    names = ("model.plan", "model.onnx", "model.tflite")
    found = [path for name in names if (path := folder / name).is_file()]
    if not found:
        raise PlanError(f"{folder}: not a bundle: holds none of {', '.join(names)}")
    return found[0]
