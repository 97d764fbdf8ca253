"""States: outputs of a run that are inputs of the next, as a plan's metadata says it."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.converters.program import Program
from edgekit.targets.errors import ModelError

_KEY = "state:"


def describe_states(program: Program, states: Mapping[str, str]) -> dict[str, str]:
    """Returns the metadata that makes sessions carry states.

    Args:
        program: The lowered network.
        states: By the name of an input, the output of one run that it takes in the next.

    Raises:
        ModelError: There is no such input or output, or the two differ in type or shape.
    """
    for source, result in states.items():
        if source not in program.inputs:
            raise ModelError(
                f"there is no input '{source}' to carry a state to: the model has {', '.join(program.inputs)}"
            )
        if result not in program.outputs:
            raise ModelError(
                f"there is no output '{result}' to carry a state from: the model has {', '.join(program.outputs)}"
            )
        x, y = program.tensors[source], program.tensors[result]
        if (x.dtype, x.shape) != (y.dtype, y.shape):
            raise ModelError(
                f"output '{result}' ({y.dtype.value} {list(y.shape)}) cannot be the state '{source}' "
                f"({x.dtype.value} {list(x.shape)}): give the batch and shapes with which they are alike"
            )
    return {f"{_KEY}{source}": result for source, result in states.items()}


def parse_state(text: str) -> tuple[str, str]:
    """Reads ``INPUT=OUTPUT``.

    Raises:
        ModelError: The text is something else.

    >>> parse_state("state=stateN")
    ('state', 'stateN')
    """
    source, separator, result = text.partition("=")
    if not separator or not source or not result:
        raise ModelError(f"'{text}' is no state: write INPUT=OUTPUT")
    return source, result
