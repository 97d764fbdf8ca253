"""Compares a TFLite interpreter with recorded codes, operator by operator from the same input codes.

A whole-network comparison would mix up an operator's own difference with those it was fed. So each operator becomes a
file by itself, with the codes that were recorded as its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.converters.program import DType, Op, Program
from edgekit.converters.tflite.write import make_file

Array = npt.NDArray[Any]
# Runs a TFLite file on the arrays of its inputs, in order, and returns its only output.
Runner = Callable[[bytes, list[Array]], Array]


@dataclass(frozen=True)
class OperatorComparison:
    """One operator, given the same input codes.

    Attributes:
        name: The operator of the program.
        kind: What it is.
        written: The TFLite operators that it became.
        elements: How many codes were compared.
        differing: How many of them differ.
        largest: The largest difference, in codes.
    """

    name: str
    kind: str
    written: tuple[str, ...]
    elements: int
    differing: int
    largest: int


def compare_operators(
    program: Program, recorded: Mapping[str, Array], run: Runner
) -> list[OperatorComparison]:
    """Runs each operator that writes codes on recorded tensors.

    Args:
        program: Nothing fused.
        recorded: Tensors of the program by name, in plan order, as `run_program` returns them.
        run: The interpreter to try.
    """
    results = []
    for op in program.ops:
        if program.tensors[op.output].dtype is not DType.CODE:
            continue
        part = cut_out(program, op)
        made = make_file(part)
        inputs = []
        for name in part.inputs:
            array = recorded[name]
            if name in made.channels_last:
                array = array.transpose(0, 2, 3, 1)
            inputs.append(np.ascontiguousarray(array))
        found = run(made.data, inputs)
        apart = np.abs(found.astype(np.int32) - recorded[op.output])
        results.append(
            OperatorComparison(
                op.name,
                op.kind,
                made.operators,
                apart.size,
                int(np.count_nonzero(apart)),
                int(apart.max(initial=0)),
            )
        )
    return results


def cut_out(program: Program, op: Op) -> Program:
    """Returns a program of ``op`` alone."""
    names = dict.fromkeys(op.inputs)
    constants = {name: program.constants[name] for name in names if name in program.constants}
    return Program(
        {name: program.tensors[name] for name in (*names, op.output)},
        tuple(name for name in names if name not in constants),
        (op.output,),
        (op,),
        constants,
    )
