"""Measures what single layers and conversions between number formats take on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgekit import _native
from edgekit.benchmark import make_plan_inputs
from edgekit.converters.program import Dequantize, DType, Op, Program, Quantize, Tensor
from edgekit.converters.write_plan import write_plan
from edgekit.session import NativeSession

_ROUNDS = 5
_REPEATS = 6
# Elements on which conversions are timed: more than a layer's cache line, less than a level 2 cache.
_PROBE = 1 << 15


def open_plan(program: Program, isa: str, threads: int, path: Path) -> NativeSession:
    """Writes the plan of ``program`` to ``path`` and opens it."""
    write_plan(program, path, isa=isa, target="host", source_digest="0" * 64)
    return NativeSession(path, _native.Plan.open(path), threads)


def time_layers(sessions: Mapping[str, NativeSession]) -> dict[str, list[float]]:
    """Returns the microseconds of each operator: the least of several rounds in which the sessions take turns.

    A round's are medians; whatever else this machine does only adds to them.
    """
    samples: dict[str, list[list[float]]] = {name: [] for name in sessions}
    for _ in range(_ROUNDS):
        for name, session in sessions.items():
            inputs = make_plan_inputs(session)
            profile = session.native.profile(inputs, repeats=_REPEATS)
            samples[name].append([1e6 * seconds for _, seconds in profile])
    return {
        name: [min(values) for values in zip(*rounds, strict=True)]
        for name, rounds in samples.items()
    }


def time_conversions(isa: str, folder: Path) -> tuple[float, float]:
    """Returns the microseconds that an element takes to become a code, and to become float32 again."""
    tensors = {
        "x": Tensor("x", (1, _PROBE), DType.FLOAT32),
        "codes": Tensor("codes", (1, _PROBE), scale=np.float32(0.01)),
        "y": Tensor("y", (1, _PROBE), DType.FLOAT32),
    }
    ops: tuple[Op, ...] = (
        Quantize(name="quantize", input="x", output="codes"),
        Dequantize(name="dequantize", input="codes", output="y"),
    )
    session = open_plan(Program(tensors, ("x",), ("y",), ops), isa, 1, folder / "conversions.plan")
    profile = session.native.profile(make_plan_inputs(session), repeats=50)
    quantizing, dequantizing = (1e6 * seconds / _PROBE for _, seconds in profile)
    return quantizing, dequantizing


def find_owners(graph: ir.Graph, program: Program) -> list[str]:
    """Returns the node that each operator came from, "" for conversions between codes and float32, and for others."""
    owners = {node.name or "": node.name or "" for node in graph}
    for node in graph:
        for value in node.outputs:
            owners.setdefault(str(value.name), node.name or "")
    for value in graph.inputs:
        reader = next(iter(value.uses()), None)
        if reader is not None:
            owners.setdefault(str(value.name), reader.node.name or "")
    found = []
    for op in program.ops:
        name = "" if isinstance(op, Quantize | Dequantize) else op.name
        while name and name not in owners:
            name = name[: max(name.rfind(":"), name.rfind("#"), 0)]
        found.append(owners[name] if name else "")
    return found


def sum_by_node(graph: ir.Graph, program: Program, times: list[float]) -> dict[str, float]:
    """Returns the time of each node: that of the operators that it became, conversions left out."""
    costs: dict[str, float] = {}
    for owner, microseconds in zip(find_owners(graph, program), times, strict=True):
        if owner:
            costs[owner] = costs.get(owner, 0.0) + microseconds
    return costs


def list_sizes(program: Program) -> dict[str, int]:
    """Returns the elements of the values that float32 tensors hold."""
    return {name.removesuffix(":real"): tensor.size for name, tensor in program.tensors.items()}
