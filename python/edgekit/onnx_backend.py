"""The native runtime behind ONNX's backend interface: any model that the native form holds, in float32.

    >>> import onnx.parser
    >>> model = onnx.parser.parse_model(
    ...     '<ir_version: 10, opset_import: ["" : 21]> g (float[2] x) => (float[2] y) { y = Relu(x) }'
    ... )
    >>> NativeBackend.run_model(model, [np.float32([-1, 2])])[0].tolist()
    [0.0, 2.0]

A plan is laid out before any input is seen. So what a layer takes as weights, and what says how large a tensor is,
has to be known by then: where ONNX hands such operands over as inputs of the model, the values of the first run become
constants, and a later run with others makes another plan.
"""

from __future__ import annotations

import tempfile
import unittest
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.backend.base
from onnx import numpy_helper

from edgekit import _native
from edgekit.converters.check_sizes import check_sizes
from edgekit.converters.lower import lower
from edgekit.converters.own_scales import keep_own_scales
from edgekit.converters.passes import simplify
from edgekit.converters.quantization import ActivationQuantization, keep_float
from edgekit.converters.read_model import read_model
from edgekit.converters.write_plan import write_plan
from edgekit.targets.errors import EdgekitError, ModelError

Array = npt.NDArray[Any]


class UnsupportedModelError(ModelError, unittest.SkipTest):
    """The native form cannot hold a model; ONNX's test runner counts it as skipped."""


@dataclass(frozen=True)
class Prepared:
    """A plan and what it was made for.

    Attributes:
        session: Runs it.
        bound: The inputs that became constants, by name.
        grids: Of the inputs and outputs that are codes in the model, and numbers in a plan.
    """

    session: _native.Session
    bound: Mapping[str, Array]
    grids: Mapping[str, ActivationQuantization]

    def fits(self, inputs: Mapping[str, Array]) -> bool:
        """Returns whether the plan answers for these inputs."""
        return all(
            np.array_equal(array, inputs[name], equal_nan=array.dtype.kind == "f")
            for name, array in self.bound.items()
        )


class NativeBackendRep(onnx.backend.base.BackendRep):
    """A model that is ready to run.

    Attributes:
        prepared: The plan of the last run, None before the first.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.prepared: Prepared | None = None
        self._model = model
        given = {tensor.name for tensor in model.graph.initializer}
        self._inputs = [value for value in model.graph.input if value.name not in given]

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Array, ...]:
        """Returns the outputs in the model's order.

        Args:
            inputs: Arrays in the order of the model's inputs that are no initializers.
            kwargs: Ignored, as the interface asks.

        Raises:
            UnsupportedModelError: The native form cannot hold the model; names the node and the reason.
            EdgekitError: The number of inputs, a shape or a type does not fit.
        """
        if len(inputs) != len(self._inputs):
            raise EdgekitError(f"the model takes {len(self._inputs)} inputs, not {len(inputs)}")
        arrays = {
            value.name: _array(value.name, array)
            for value, array in zip(self._inputs, inputs, strict=True)
        }
        if self.prepared is None or not self.prepared.fits(arrays):
            self.prepared = self._prepare(arrays)
        bound, grids = self.prepared.bound, self.prepared.grids
        answers = self.prepared.session.run(
            {
                name: _decode(array, grids[name]) if name in grids else array
                for name, array in arrays.items()
                if name not in bound
            }
        )
        return tuple(
            _encode(answers[value.name], grids[value.name], value)
            if value.name in grids
            else answers[value.name]
            for value in self._model.graph.output
        )

    def _prepare(self, arrays: Mapping[str, Array]) -> Prepared:
        refusal: EdgekitError | None = None
        for names in _choices(arrays):
            bound = {name: arrays[name] for name in names}
            try:
                session, grids = _open(_bind(self._model, bound))
                return Prepared(session, bound, grids)
            except EdgekitError as error:
                refusal = error
        raise UnsupportedModelError(str(refusal)) from refusal


class NativeBackend(onnx.backend.base.Backend):
    """Runs ONNX models in the native form: every layer in float32, or with the codes that the model has."""

    @classmethod
    def prepare(
        cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any
    ) -> NativeBackendRep:
        """Returns what runs ``model``; the plan is made with the first inputs.

        Raises:
            UnsupportedModelError: The device is not the CPU.
        """
        if not cls.supports_device(device):
            raise UnsupportedModelError(f"edgekit's runtime runs on the CPU, not on {device}")
        return NativeBackendRep(model)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[npt.DTypeLike, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Array, ...]:
        """Runs one operator.

        Args:
            node: The operator.
            inputs: Arrays, one for each input that the node names.
            device: "CPU".
            outputs_info: Element type and shape of each output; float32 of unknown shape where it is not given.
            kwargs: ``opset_version``, by default the newest.

        Raises:
            UnsupportedModelError: The native form cannot hold the operator.
        """
        names = [name for name in node.input if name]
        arrays = [_array(name, value) for name, value in zip(names, inputs, strict=True)]
        infos: list[tuple[npt.DTypeLike, tuple[int, ...] | None]]
        infos = [(np.float32, None)] * len(node.output) if outputs_info is None else [*outputs_info]
        graph = onnx.helper.make_graph(
            [node],
            "node",
            [_describe(name, a.dtype, a.shape) for name, a in zip(names, arrays, strict=True)],
            [
                _describe(name, dtype, shape)
                for name, (dtype, shape) in zip(node.output, infos, strict=True)
            ],
        )
        version = kwargs.get("opset_version", onnx.defs.onnx_opset_version())
        model = onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid(node.domain, version)]
        )
        return cls.run_model(model, arrays, device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Returns whether ``device`` is the CPU."""
        return device.partition(":")[0] == "CPU"


def _describe(
    name: str, dtype: npt.DTypeLike, shape: tuple[int, ...] | None
) -> onnx.ValueInfoProto:
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return onnx.helper.make_tensor_value_info(name, element, shape)


def _array(name: str, value: Any) -> Array:
    """Returns an input as an array.

    Raises:
        UnsupportedModelError: It is a sequence, a map or nothing.
    """
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if value is None or isinstance(value, (list, dict)):
        raise UnsupportedModelError(
            f"input '{name}' is no tensor, and the native form takes nothing else"
        )
    return np.asarray(value)


def _choices(arrays: Mapping[str, Array]) -> Iterator[list[str]]:
    """Yields the inputs to make constants of: none, those that say sizes and places, all but the first."""
    yield []
    whole = [name for name, array in arrays.items() if array.dtype.kind not in "f"]
    if 0 < len(whole) < len(arrays):
        yield whole
    others = list(arrays)[1:]
    if others and others != whole:
        yield others


def _bind(model: onnx.ModelProto, bound: Mapping[str, Array]) -> onnx.ModelProto:
    """Returns ``model`` with some of its inputs as constants."""
    if not bound:
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    inputs = [value for value in result.graph.input if value.name not in bound]
    del result.graph.input[:]
    result.graph.input.extend(inputs)
    result.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in bound.items()
    )
    return result


def _decode(codes: Array, grid: ActivationQuantization) -> Array:
    """Returns the numbers that codes of 8 bits stand for."""
    zero_point = grid.zero_point - _shift(codes.dtype)
    return (codes.astype(np.float32) - np.float32(zero_point)) * np.float32(grid.scale)


def _encode(numbers: Array, grid: ActivationQuantization, value: onnx.ValueInfoProto) -> Array:
    """Returns the codes of numbers that are on their grid, in the type of ``value``."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    zero_point = grid.zero_point - _shift(dtype)
    return (np.rint(numbers / np.float32(grid.scale)) + zero_point).astype(dtype)


def _shift(dtype: np.dtype[Any]) -> int:
    return -128 if dtype == np.uint8 else 0


def _open(
    model: onnx.ModelProto,
) -> tuple[_native.Session, dict[str, ActivationQuantization]]:
    """Returns a session of ``model``, every layer in float32 or with the model's own codes.

    Returns:
        The session, and the grids of inputs and outputs that are codes in ``model`` and numbers in the session.

    Raises:
        ModelError: The native form cannot hold the model.
    """
    codes = {
        value.name
        for value in (*model.graph.input, *model.graph.output)
        if value.type.tensor_type.elem_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    }
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        source, plan = Path(folder) / "model.onnx", Path(folder) / "model.plan"
        source.write_bytes(model.SerializeToString())
        read = read_model(source)
        check_sizes(read.graph)
        if read.records:
            # Layers whose weights do not fit int8 around 0 are computed in float32 rather than rounded anew.
            fitting = {name: record for name, record in read.records.items() if record is not None}
            graph = keep_own_scales(read.graph, fitting, read.dynamic)
        else:
            graph = read.graph
            simplify(graph)
            for node in graph.graph:
                keep_float(node)
        write_plan(
            lower(graph), plan, isa=_native.best_isa(), target="host", source_digest="in memory"
        )
        grids = {
            name: record
            for name, record in read.records.items()
            if name in codes and isinstance(record, ActivationQuantization)
        }
        return _native.Session(_native.Plan.open(plan)), grids
