"""A TensorFlow Lite file as the doctor looks at it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.converters.doctor.processor import Processor
from edgekit.converters.doctor.subject import Answer, Sample, Subject
from edgekit.converters.doctor.tflite_graph import TfliteGraph
from edgekit.converters.full_disk import name_full_disk
from edgekit.converters.quiet_delegate import spend_greeting
from edgekit.converters.read_tflite.file import parse, read_bytes
from edgekit.converters.read_tflite.schema import load_schema
from edgekit.targets.errors import ModelError

_IDENTIFIER = b"TFL3"
_DAMAGE = (
    *(struct.error, ValueError, TypeError, IndexError),
    *(OverflowError, AttributeError, MemoryError, AssertionError),
)


class TfliteSubject(Subject):
    """A TensorFlow Lite file under examination.

    Attributes:
        data: Its bytes, which were checked.
    """

    def __init__(self, path: Path, data: bytes, processor: Processor) -> None:
        super().__init__(path, processor)
        self.data = data
        self._graph: TfliteGraph | None = None

    @property
    def graph(self) -> TfliteGraph:
        """The main subgraph.

        Raises:
            ModelError: The file is damaged.
        """
        if self._graph is None:
            self._graph = TfliteGraph.of(parse(self.data, str(self.path)))
        return self._graph

    def copy(self) -> TfliteSubject:
        """Returns a subject that can be changed without touching this one."""
        other = TfliteSubject(self.path, self.data, self.processor)
        other.samples, other.samples_are_real = self.samples, self.samples_are_real
        return other

    def settle(self) -> None:
        """Checks what was written."""
        self._graph = None
        _ = self.graph

    def save(self, path: Path) -> None:
        """Writes the file to ``path``."""
        with name_full_disk(path, "free some space and run the command again"):
            path.write_bytes(self.data)

    @contextmanager
    def change(self) -> Iterator[Any]:
        """Yields the file as objects of the schema; what the block leaves of them is the file from then on.

        Raises:
            ModelError: A part that the rules do not look at is damaged.
        """
        import flatbuffers

        schema = load_schema()
        try:
            model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(self.data), 0))
        except _DAMAGE as error:
            raise ModelError(f"{self.path}: damaged: {error}") from error
        yield model
        builder = flatbuffers.Builder(len(self.data))
        builder.Finish(model.Pack(builder), _IDENTIFIER)
        self.data = bytes(builder.Output())
        self._graph = None
        for name in ("answers", "load_problem", "plain_problem", "seen"):
            self.__dict__.pop(name, None)

    @cached_property
    def load_problem(self) -> str:
        """Why the interpreter cannot load the file; '' where it can, or where open sizes leave it unsaid."""
        return "" if self._has_open_sizes else self._try_to_load(plainly=False)

    @cached_property
    def plain_problem(self) -> str:
        """Why the interpreter cannot load the file without XNNPACK; '' where it can, or as `load_problem`."""
        return "" if self._has_open_sizes else self._try_to_load(plainly=True)

    @property
    def _has_open_sizes(self) -> bool:
        graph = self.graph
        return any(None in graph.tensor(index).signature for _, index in graph.file.inputs)

    def _try_to_load(self, *, plainly: bool) -> str:
        try:
            self._interpret(self.data, plainly=plainly)
        except ModelError as error:
            return " ".join(str(error).split())
        return ""

    @cached_property
    def answers(self) -> list[Answer]:
        """What the file answers to the samples, by TensorFlow Lite's own kernels, or by XNNPACK where they lack one.

        Raises:
            ModelError: The interpreter cannot run it.
        """
        interpreter = self._interpret(self.data, plainly=not self.plain_problem)
        return [self._run(interpreter, sample) for sample in self.samples]

    @property
    def reference_answers(self) -> list[Answer]:
        """The file's own answers: no rule for these files rounds otherwise."""
        return self.answers

    @cached_property
    def seen(self) -> dict[int, tuple[int, int]]:
        """Least and largest code over the samples, by the index of each computed tensor of 8 bits."""
        wanted = [
            tensor.index
            for tensor in self.graph.file.tensors
            if tensor.type in ("INT8", "UINT8") and self.graph.maker(tensor) is not None
        ]
        found: dict[int, tuple[int, int]] = {}
        try:
            interpreter = self._interpret(self.data, plainly=True, keep=True)
            for sample in self.samples:
                self._run(interpreter, sample)
                for index in wanted:
                    array = interpreter.get_tensor(index)
                    low, high = found.get(index, (255, -128))
                    found[index] = (min(low, int(array.min())), max(high, int(array.max())))
        except (ModelError, ValueError, RuntimeError):
            return {}
        return found

    def open(self, path: Path) -> Callable[[], object]:
        """Returns one run of the file at ``path`` with XNNPACK.

        Raises:
            ModelError: The interpreter cannot load it.
        """
        interpreter = self._interpret(path.read_bytes(), plainly=False)
        # With sizes of their own samples make it plan anew.
        self._run(interpreter, self.samples[0])

        def run() -> object:
            try:
                return interpreter.invoke()
            except (ValueError, RuntimeError) as error:
                raise ModelError(f"{self.path}: LiteRT cannot run it: {error}") from error

        return run

    def _interpret(self, data: bytes, *, plainly: bool, keep: bool = False) -> Any:
        """Returns an interpreter of ``data``; its tensors are allocated.

        Args:
            data: A file.
            plainly: Without XNNPACK.
            keep: Whether all tensors can be looked at after a run.
        """
        load_schema()
        from ai_edge_litert import interpreter as package

        spend_greeting(package)
        kinds = package.OpResolverType
        kind = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plainly else kinds.AUTO
        try:
            interpreter = package.Interpreter(
                model_content=data,
                num_threads=1,
                experimental_op_resolver_type=kind,
                experimental_preserve_all_tensors=keep,
            )
            # Sizes that stand for open ones may fit nothing; samples bring their own.
            if self.samples and self._has_open_sizes:
                for name, index in self.graph.file.inputs:
                    interpreter.resize_tensor_input(index, self.samples[0][name].shape)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{self.path}: LiteRT cannot load it: {error}") from error
        return interpreter

    def _run(self, interpreter: Any, sample: Sample) -> Answer:
        try:
            sizes = {
                info["index"]: tuple(info["shape"]) for info in interpreter.get_input_details()
            }
            for name, index in self.graph.file.inputs:
                if sample[name].shape != sizes[index]:
                    interpreter.resize_tensor_input(index, sample[name].shape)
                    interpreter.allocate_tensors()
            for name, index in self.graph.file.inputs:
                interpreter.set_tensor(index, sample[name])
            interpreter.invoke()
            answer: dict[str, npt.NDArray[np.generic]] = {
                name: interpreter.get_tensor(index) for name, index in self.graph.file.outputs
            }
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{self.path}: LiteRT cannot run it: {error}") from error
        return answer


def read_tflite_subject(path: Path, processor: Processor) -> TfliteSubject:
    """Reads and checks ``path``.

    Raises:
        ModelError: The file is missing or damaged, or ai-edge-litert is not installed.
    """
    subject = TfliteSubject(path, read_bytes(path), processor)
    _ = subject.graph
    return subject
