"""What a student's answers are compared with its teacher's by.

Every term is at the scale of 1: a Kullback-Leibler divergence, or a power of differences over that of the teacher's
values. Classes are softened as by Hinton, Vinyals and Dean (https://arxiv.org/abs/1503.02531), features compared as by
Romero et al. (https://arxiv.org/abs/1412.6550).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir
import torch

from edgekit.converters.passes.rewrite import attribute
from edgekit.distillation.network import TRAINED
from edgekit.distillation.settings import Settings
from edgekit.targets.errors import ModelError

Tensors = Mapping[str, torch.Tensor]

# Outputs of one layer that are taken for classes.
_FEWEST_CLASSES = 3
_TINY = 1e-20


@dataclass(frozen=True)
class Compared:
    """What is compared.

    Attributes:
        classes: Values whose last dimension (or that of ``axes``) tells classes apart: softmax is taken of them.
        axes: By name of such a value, the dimension of its classes.
        numbers: Values that are compared as they are.
        features: Inner values, which count by ``Settings.feature_weight``.
    """

    classes: tuple[str, ...]
    axes: Mapping[str, int]
    numbers: tuple[str, ...]
    features: tuple[str, ...]

    @property
    def wanted(self) -> tuple[str, ...]:
        """The names of all values."""
        return (*self.classes, *self.numbers, *self.features)


def compare_by(teacher: ir.Graph, student: ir.Graph, settings: Settings) -> Compared:
    """Returns what is compared of two graphs whose outputs have the same names.

    "auto" takes what a Softmax at the end reads for classes, and what a layer with at least three outputs gives for
    classes and numbers at once; any other output for numbers.

    Raises:
        ModelError: A feature is in one graph alone, or an output is no float.
    """
    classes: list[str] = []
    numbers: list[str] = []
    axes: dict[str, int] = {}
    known = _values(student)
    for output in teacher.outputs:
        name = str(output.name)
        if output.dtype not in (None, ir.DataType.FLOAT):
            continue
        logits, axis, is_certain = _find_logits(output)
        as_classes = settings.logits == "kl" or (settings.logits == "auto" and logits is not None)
        if as_classes:
            found = name if logits is None or logits not in known else logits
            classes.append(found)
            axes[found] = axis
        if not as_classes or (settings.logits == "auto" and not is_certain):
            numbers.append(name)
    if not classes and not numbers:
        raise ModelError("none of the outputs is of floats: there is nothing to distill")
    taken = {*classes, *numbers}
    features = _find_features(teacher, student, settings, taken)
    return Compared(tuple(classes), axes, tuple(numbers), tuple(features))


def measure_loss(
    teacher: Tensors, student: Tensors, compared: Compared, settings: Settings
) -> torch.Tensor:
    """Returns the loss, the mean over the samples of a batch."""
    outputs = [
        _divergence(teacher[name], student[name], compared.axes[name], settings.temperature)
        for name in compared.classes
    ]
    outputs += [_noise(teacher[name], student[name]) for name in compared.numbers]
    loss = torch.stack(outputs).mean()
    if compared.features and settings.feature_weight:
        features = [_noise(teacher[name], student[name]) for name in compared.features]
        loss = loss + settings.feature_weight * torch.stack(features).mean()
    return loss


def _divergence(
    teacher: torch.Tensor, student: torch.Tensor, axis: int, temperature: float
) -> torch.Tensor:
    """Returns ``T^2 KL(softmax(t / T) || softmax(s / T))``."""
    wanted = torch.log_softmax(teacher.float() / temperature, dim=axis)
    given = torch.log_softmax(student.float() / temperature, dim=axis)
    return temperature**2 * (wanted.exp() * (wanted - given)).sum(dim=axis).mean()


def _noise(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """Returns the power of the difference over that of the teacher's values."""
    wanted = teacher.float()
    return (student.float() - wanted).pow(2).sum() / (wanted.pow(2).sum() + _TINY)


def _values(graph: ir.Graph) -> dict[str, ir.Value]:
    return {str(value.name): value for node in graph for value in node.outputs}


def _find_logits(output: ir.Value) -> tuple[str | None, int, bool]:
    """Returns the name of the value whose softmax tells classes, its dimension, and whether that is certain."""
    node = output.producer()
    if node is None or node.domain:
        return None, -1, False
    if node.op_type in ("Softmax", "LogSoftmax") and node.inputs[0] is not None:
        return str(node.inputs[0].name), attribute(node, "axis", -1), True
    if node.op_type in ("Gemm", "MatMul") and output.shape is not None:
        last = output.shape[-1] if len(output.shape) == 2 else None
        if isinstance(last, int) and last >= _FEWEST_CLASSES:
            return str(output.name), -1, False
    return None, -1, False


def _find_features(
    teacher: ir.Graph, student: ir.Graph, settings: Settings, taken: set[str]
) -> list[str]:
    known, others = _values(teacher), _values(student)
    if not isinstance(settings.features, int):
        for name in settings.features:
            if name not in known or name not in others:
                raise ModelError(f"feature '{name}' is no value of both networks")
        return list(settings.features)
    shared = [
        name
        for name in _find_cuts(teacher, 2 * settings.features)
        if name in others and name not in taken and _same_shape(known[name], others[name])
    ]
    count = min(settings.features, len(shared))
    return [shared[(index + 1) * len(shared) // count - 1] for index in range(count)]


def _same_shape(a: ir.Value, b: ir.Value) -> bool:
    """Returns whether the known dimensions of two values agree."""
    if a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
        return False
    return all(
        m == n
        for m, n in zip(list(a.shape)[1:], list(b.shape)[1:], strict=True)
        if isinstance(m, int) and isinstance(n, int)
    )


def _find_cuts(graph: ir.Graph, enough: int) -> list[str]:
    """Returns ends of blocks, in graph order: float values made where few others are still needed.

    Those with the fewest, and with one more each, until there are ``enough``; values that no weight has a part in are
    left out.
    """
    nodes: Sequence[ir.Node] = list(graph)
    last = {
        value: place
        for place, node in enumerate(nodes)
        for value in node.inputs
        if value is not None
    }
    weighted: set[ir.Value] = set()
    alive: set[ir.Value] = set()
    counts: list[tuple[int, ir.Value]] = []
    for place, node in enumerate(nodes):
        if node.op_type in TRAINED or any(value in weighted for value in node.inputs):
            weighted.update(node.outputs)
        alive.update(value for value in node.outputs if last.get(value, -1) > place)
        alive = {value for value in alive if last[value] > place}
        made = node.outputs[0]
        if made in alive and made in weighted and made.dtype in (None, ir.DataType.FLOAT):
            counts.append((len(alive), made))
    ordered = sorted(count for count, _ in counts)
    if not ordered:
        return []
    most = ordered[min(enough, len(ordered)) - 1]
    return [str(value.name) for count, value in counts if count <= most]
