"""An ONNX file as the doctor looks at it: the graph as it was written, and what running it shows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
from onnx_ir.passes import common

from edgekit.converters.doctor.dequantize import dequantize_activations, fold_weights
from edgekit.converters.doctor.processor import Processor
from edgekit.converters.doctor.profile_onnx import NodeTime, profile_onnx
from edgekit.converters.doctor.qdq import activation_quantizers, grid_of, is_quantized, label
from edgekit.converters.doctor.run_onnx import copy_model, load_weights, run_plainly, write_model
from edgekit.converters.doctor.subject import Answer, Subject
from edgekit.converters.fusion import FusionReport, report_fusion
from edgekit.converters.read_onnx import infer_shapes, name_nodes, read_as_written
from edgekit.targets.errors import ModelError

Range = tuple[float, float]


class OnnxSubject(Subject):
    """An ONNX file under examination.

    Attributes:
        model: Its graph: opset, operators and names as written; Constant nodes have become initializers, nodes without
            a name are called by their first output, and shapes are inferred where they could be.
        lacking: Names of values at which shapes are lost: neither the file nor ONNX's inference gives them.
    """

    def __init__(self, path: Path, model: ir.Model, processor: Processor) -> None:
        super().__init__(path, processor)
        self.model = model
        self.lacking = tuple(_find_shapeless(model.graph))
        self._load_problem = ""

    @property
    def graph(self) -> ir.Graph:
        """The main graph."""
        return self.model.graph

    def copy(self) -> OnnxSubject:
        """Returns a subject whose model can be changed without touching this one."""
        other = OnnxSubject(self.path, copy_model(self.model), self.processor)
        other.samples, other.samples_are_real = self.samples, self.samples_are_real
        return other

    def settle(self) -> None:
        """Infers shapes."""
        infer_shapes(self.model)
        self.lacking = tuple(_find_shapeless(self.graph))

    @cached_property
    def is_quantized(self) -> bool:
        """Whether any value is held in codes."""
        return is_quantized(self.graph)

    @cached_property
    def fusion(self) -> FusionReport | None:
        """What ONNX Runtime makes of the file for the processor; None where it cannot load it."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            write_model(self.model, path)
            try:
                return report_fusion(path, "ort-x86" if self.processor.is_x86 else "ort-arm")
            except ModelError as error:
                self._load_problem = " ".join(str(error).split())
                return None

    @cached_property
    def load_problem(self) -> str:
        """Why ONNX Runtime cannot load the file; '' where it can."""
        return "" if self.fusion is not None else self._load_problem

    @cached_property
    def left_float(self) -> dict[str, str]:
        """Nodes that ONNX Runtime computes in float, by name, with its reason."""
        if self.fusion is None:
            return {}
        return {node.name: node.reason for node in self.fusion.left_float}

    @cached_property
    def reference(self) -> OnnxSubject:
        """The float network that a quantized file stands for."""
        subject = self.copy()
        dequantize_activations(subject.model)
        return subject

    @cached_property
    def answers(self) -> list[Answer]:
        """What the file answers to the samples, without graph optimization.

        Raises:
            ModelError: ONNX Runtime cannot run it.
        """
        return list(run_plainly(self.model, self.samples))

    @cached_property
    def reference_answers(self) -> list[Answer]:
        """What the float network answers to the samples.

        Raises:
            ModelError: ONNX Runtime cannot run it.
        """
        return self.reference.answers

    @cached_property
    def clipped(self) -> dict[str, float]:
        """Share of the values of each input of the file, in [0, 1], that the grid behind it cannot hold."""
        shares = {}
        for node in activation_quantizers(self.graph):
            grid, value = grid_of(node), node.inputs[0]
            if grid is None or not grid.is_single or value is None or not value.is_graph_input():
                continue
            arrays = [sample[str(value.name)].astype(np.float64) for sample in self.samples]
            low, high = grid.limits
            half = float(grid.scale.reshape(-1)[0]) / 2
            outside = sum(np.count_nonzero((a < low - half) | (a > high + half)) for a in arrays)
            shares[str(value.name)] = outside / max(sum(a.size for a in arrays), 1)
        return shares

    @cached_property
    def ranges(self) -> dict[str, Range]:
        """Least and largest number of each value that is quantized, and of what concatenations join, over the samples.

        Measured on the float network; empty where there is nothing to run.
        """
        if not self.samples:
            return {}
        model = self.reference.model
        wanted: dict[str, None] = {}
        for node in activation_quantizers(self.graph):
            if node.inputs[0] is not None and node.inputs[0].name:
                wanted[node.inputs[0].name] = None
        for node in self.graph:
            if node.op_type == "Concat":
                wanted.update(
                    (value.name, None) for value in node.inputs if value is not None and value.name
                )
        made = {value.name for node in model.graph for value in node.outputs}
        given = {str(value.name) for value in model.graph.inputs}
        try:
            answers = run_plainly(model, self.samples, [name for name in wanted if name in made])
        except ModelError:
            return {}
        for answer, sample in zip(answers, self.samples, strict=True):
            answer.update((name, sample[name]) for name in wanted if name in given)
        found: dict[str, Range] = {}
        for answer in answers:
            for name, array in answer.items():
                if array.size and array.dtype.kind in "fiu":
                    low, high = found.get(name, (np.inf, -np.inf))
                    found[name] = (min(low, float(array.min())), max(high, float(array.max())))
        return found

    @cached_property
    def profile(self) -> list[NodeTime]:
        """What each node of the optimized graph takes on this machine; empty where it cannot be run."""
        if not self.samples or self.load_problem:
            return []
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            write_model(self.model, path)
            try:
                return profile_onnx(path, self.samples[0])
            except ModelError:
                return []

    def save(self, path: Path) -> None:
        """Writes the model to ``path``."""
        write_model(self.model, path)

    def save_float(self, path: Path) -> bool:
        """Writes the float network to ``path``: float weights, and a Clip where grids end."""
        if not self.is_quantized:
            return False
        subject = self.reference.copy()
        fold_weights(subject.model)
        # What is still in codes is in ONNX Runtime's own operators, which have no float counterpart here.
        if is_quantized(subject.graph):
            return False
        write_model(subject.model, path)
        return True

    def open(self, path: Path) -> Callable[[], object]:
        """Returns one run of the file at ``path`` with all of ONNX Runtime's optimizations.

        Raises:
            ModelError: ONNX Runtime cannot load it.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own classes share no public base.
            raise ModelError(f"{path}: ONNX Runtime cannot load it: {error}") from error
        sample = dict(self.samples[0])

        def run() -> object:
            try:
                return session.run(None, sample)
            except Exception as error:  # ONNX Runtime's own classes share no public base.
                raise ModelError(f"{self.path}: ONNX Runtime cannot run it: {error}") from error

        return run


def read_subject(path: Path, processor: Processor) -> OnnxSubject:
    """Reads ``path`` as it was written.

    Raises:
        ModelError: The file is missing or damaged.
    """
    model = read_as_written(path)
    try:
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        name_nodes(model)
        common.NameFixPass()(model)
    except (ValueError, TypeError, KeyError, RuntimeError, ir.passes.InvariantError) as error:
        message = " ".join(str(error.__cause__ or error).split())
        raise ModelError(f"{path}: the graph is not valid ONNX: {message[:200]}") from error
    _check_edges(model, path)
    _check_constants(model, path)
    load_weights(model)
    _check_writable(model, path)
    infer_shapes(model)
    return OnnxSubject(path, model, processor)


def _check_edges(model: ir.Model, path: Path) -> None:
    """Checks that whatever is read is made.

    Raises:
        ModelError: A node reads what nothing gives, or nothing gives an output.
    """
    given = {*model.graph.inputs, *model.graph.initializers.values()}
    for graph in model.graph.subgraphs():
        given |= {*graph.inputs, *graph.initializers.values()}
    for node in model.graph.all_nodes():
        for value in node.inputs:
            if value is not None and value.producer() is None and value not in given:
                raise ModelError(
                    f"{path}: node '{label(node)}' ({node.op_type}) reads '{value.name}', which nothing gives"
                )
    for value in model.graph.outputs:
        if value.producer() is None and value not in given:
            raise ModelError(f"{path}: output '{value.name}' is given by no node")


def _check_constants(model: ir.Model, path: Path) -> None:
    """Checks that the elements of each initializer are there.

    Raises:
        ModelError: Shape and bytes do not agree.
    """
    for name, value in model.graph.initializers.items():
        if value.const_value is None:
            raise ModelError(f"{path}: initializer '{name}' has no value")
        try:
            value.const_value.numpy()
        except (ValueError, TypeError, OSError) as error:
            raise ModelError(f"{path}: initializer '{name}' is damaged: {error}") from error


def _check_writable(model: ir.Model, path: Path) -> None:
    """Checks that the graph can be written again, as running it and fixing it need.

    Raises:
        ModelError: An attribute or a tensor is of a type that ONNX does not have.
    """
    try:
        ir.to_proto(model)
    except (ir.serde.SerdeError, ValueError, TypeError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        message = " ".join(str(cause).split())
        raise ModelError(f"{path}: the graph is not valid ONNX: {message[:200]}") from error


def _find_shapeless(graph: ir.Graph) -> Iterator[str]:
    """Yields the values at which shapes are lost; not what comes after them, nor what ONNX has no operator for."""
    for value in graph.inputs:
        if value.shape is None and isinstance(value.type, ir.TensorType):
            yield str(value.name)
    for node in graph:
        given = [value for value in node.inputs if value is not None]
        if node.domain not in ("", "ai.onnx") or any(value.shape is None for value in given):
            continue
        for value in node.outputs:
            if value.name and value.shape is None and (value.uses() or value.is_graph_output()):
                yield value.name
