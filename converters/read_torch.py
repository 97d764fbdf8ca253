"""Exports a torch.nn.Module to ONNX, and checks that the export answers as the module does.

PyTorch (the extra `torch`) is imported by whoever made the module, and here only then.
"""

from __future__ import annotations

import inspect
import io
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from edgekit.targets.errors import EdgekitError, ModelError

# The newest that torch writes by itself; reading converts it.
_OPSET = 18
# Power of what the export may differ from the module by, over that of its answers: float32 in another order.
_MOST_NOISE = 1e-6
_LEAST_SIGNAL = 1e-30
# A batch of one would be taken for a fixed one.
_TRACED_BATCH = 2
_LONGEST_REASON = 300


def is_module(model: Any) -> bool:
    """Returns whether ``model`` is a torch.nn.Module, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def export_module(module: Any, example_inputs: Any) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Exports ``module`` in evaluation mode; the modes of its parts are as before afterwards.

    Args:
        module: A torch.nn.Module.
        example_inputs: What ``forward`` takes: a tensor or an array, a sequence of them, or a mapping by the names of
            its parameters. The first dimension of those as long as the first one's is the batch, and stays open.

    Returns:
        The model, and notes: that the batch is fixed, where the module allows one size only.

    Raises:
        ModelError: torch cannot trace the module (says why), onnxscript is missing, or the export answers otherwise
            than the module.
        EdgekitError: There are no example inputs, or they do not fit ``forward``.
    """
    torch = sys.modules["torch"]
    name = type(module).__name__
    arguments = _name_inputs(torch, module, example_inputs)
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ModelError(
            f'{name}: exporting it needs onnxscript: pip install "edgekit[torch]"'
        ) from error
    with _evaluating(torch, module):
        try:
            wanted = _run(torch, module, arguments)
        except Exception as error:  # Whatever forward raises.
            raise EdgekitError(
                f"{name}: forward fails on example_inputs: {_first_line(error)}"
            ) from error
        proto, notes = _export(torch, module, arguments, name)
    _compare(proto, arguments, wanted, name)
    return proto, notes


def _name_inputs(torch: Any, module: Any, given: Any) -> dict[str, Any]:
    """Returns the example tensors by the names of the parameters of ``forward``."""
    name = type(module).__name__
    if given is None:
        raise EdgekitError(
            f"{name} is a torch.nn.Module: give example_inputs=(tensor, ...), of the shapes that forward takes"
        )
    if isinstance(given, Mapping):
        tensors = dict(given)
    else:
        values = list(given) if isinstance(given, Sequence) else [given]
        parameters = inspect.signature(module.forward).parameters.values()
        names = [
            parameter.name
            for parameter in parameters
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]
        if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
            names += [f"input_{index}" for index in range(len(names), len(values))]
        if len(values) > len(names):
            raise EdgekitError(
                f"{name}: forward takes {len(names)} inputs ({', '.join(names)}), not {len(values)}"
            )
        tensors = dict(zip(names, values, strict=False))
    if not tensors:
        raise EdgekitError(f"{name}: example_inputs is empty")
    for key, value in tensors.items():
        if isinstance(value, np.ndarray):
            tensors[key] = torch.from_numpy(value)
        elif not isinstance(value, torch.Tensor):
            raise EdgekitError(
                f"{name}: example input '{key}' is no tensor or array but {type(value).__name__}"
            )
    return tensors


@contextmanager
def _evaluating(torch: Any, module: Any) -> Iterator[None]:
    """Puts ``module`` into evaluation mode without gradients, and back."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for part, training in modes:
            part.training = training


def _run(torch: Any, module: Any, arguments: Mapping[str, Any]) -> list[npt.NDArray[Any]]:
    """Returns the tensors that ``module`` answers with, however they are nested."""
    results = (
        module(**arguments) if _takes_names(module, arguments) else module(*arguments.values())
    )
    leaves = torch.utils._pytree.tree_leaves(results)
    return [leaf.detach().cpu().numpy() for leaf in leaves if isinstance(leaf, torch.Tensor)]


def _takes_names(module: Any, arguments: Mapping[str, Any]) -> bool:
    return set(arguments) <= set(inspect.signature(module.forward).parameters)


def _export(
    torch: Any, module: Any, arguments: Mapping[str, Any], name: str
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Exports with an open batch where the module allows it, else with that of the examples."""
    batch = _batch(arguments)
    if batch is not None:
        shared = {key for key, tensor in arguments.items() if tensor.ndim and len(tensor) == batch}
        longer = {
            key: torch.cat([tensor[:1]] * _TRACED_BATCH) if key in shared else tensor
            for key, tensor in arguments.items()
        }
        shapes = {key: {0: torch.export.Dim.AUTO} if key in shared else {} for key in arguments}
        try:
            proto = _trace(torch, module, longer, shapes)
        except Exception as error:  # torch's own classes share no public base.
            logging.getLogger(__name__).debug("no open batch: %s", error)
        else:
            sizes = [info.type.tensor_type.shape.dim[:1] for info in proto.graph.input]
            if any(size and size[0].dim_param for size in sizes):
                return proto, ()
    try:
        proto = _trace(torch, module, arguments, None)
    except Exception as error:  # As above.
        raise ModelError(
            f"{name}: torch cannot trace it: {_explain(error)}. Branches that depend on values can be written with "
            "torch.where or torch.cond"
        ) from error
    note = f"the batch is fixed at {batch}, as in example_inputs: {name} allows no other"
    return proto, () if batch is None else (note,)


def _batch(arguments: Mapping[str, Any]) -> int | None:
    first = next(iter(arguments.values()))
    return len(first) if first.ndim else None


def _trace(
    torch: Any, module: Any, arguments: Mapping[str, Any], shapes: Mapping[str, Any] | None
) -> onnx.ModelProto:
    named = _takes_names(module, arguments)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            program = torch.onnx.export(
                module,
                () if named else tuple(arguments.values()),
                kwargs=dict(arguments) if named else None,
                input_names=list(arguments),
                dynamic_shapes=shapes if named or shapes is None else tuple(shapes.values()),
                opset_version=_OPSET,
                dynamo=True,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    proto: onnx.ModelProto = program.model_proto
    _forget_origin(proto)
    return proto


def _forget_origin(proto: onnx.ModelProto) -> None:
    """Takes out where in the user's files each node came from: it is nobody's business, and changes with the folder."""
    del proto.metadata_props[:]
    del proto.graph.metadata_props[:]
    for item in (
        *proto.graph.node,
        *proto.graph.input,
        *proto.graph.output,
        *proto.graph.value_info,
        *proto.graph.initializer,
    ):
        del item.metadata_props[:]
        item.doc_string = ""


def _compare(
    proto: onnx.ModelProto,
    arguments: Mapping[str, Any],
    wanted: Sequence[npt.NDArray[Any]],
    name: str,
) -> None:
    """Checks that the export answers as the module did."""
    try:
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        taken = {info.name for info in session.get_inputs()}
        feeds = {key: tensor.cpu().numpy() for key, tensor in arguments.items() if key in taken}
        given = session.run(None, feeds)
    except Exception as error:  # ONNX Runtime's own classes share no public base.
        raise ModelError(
            f"{name}: what torch exported cannot be run: {_first_line(error)}"
        ) from error
    if [array.shape for array in given] != [array.shape for array in wanted]:
        raise ModelError(f"{name}: what torch exported has other outputs than the module")
    for array, expected in zip(given, wanted, strict=True):
        signal = float(np.square(expected.astype(np.float64)).sum())
        noise = float(np.square(array.astype(np.float64) - expected).sum())
        if not noise <= _MOST_NOISE * max(signal, _LEAST_SIGNAL):
            raise ModelError(
                f"{name}: what torch exported answers otherwise than the module on example_inputs; does forward draw "
                "random numbers, or change its own state?"
            )


def _explain(error: BaseException) -> str:
    """Returns what is at the bottom of torch's chain of errors, and the line of the user's code if it is told."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0] if lines else type(error).__name__
    place = [line for line in lines if line.startswith("File ") and "in forward" in line]
    if place:
        reason = f"{reason} ({place[-1]})"
    return reason[:_LONGEST_REASON].rstrip(".")


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
