"""Cuts a lowered program in two: what the head computes and the tail reads crosses as it is, codes as codes.

Both parts are made of the operators of the whole, under their names, so that together they compute its bytes. On either
side a Reshape hands a tensor over between the plan's own memory, which is in the form that kernels want, and the
caller's, where it is called `sent_name` of its name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from edgekit.converters.program import Op, Program, Reshape, Tensor


def sent_name(name: str) -> str:
    """Returns the name of the head's output and the tail's input that hold the tensor ``name``."""
    return f"{name}:sent"


def find_crossing(program: Program, head: Collection[int]) -> tuple[str, ...]:
    """Returns the tensors that cross when the operators of these indices are the head, in the order of the whole.

    These are the network's inputs and what the head computes, as far as the tail reads them or they are outputs of the
    network.
    """
    given = {*program.inputs, *(program.ops[index].output for index in head)}
    wanted = set(program.outputs)
    for index, op in enumerate(program.ops):
        if index not in head:
            wanted.update(op.inputs)
    order = [*program.inputs, *(op.output for op in program.ops)]
    return tuple(name for name in order if name in given and name in wanted)


def is_closed(program: Program, head: Collection[int]) -> bool:
    """Returns whether the head reads nothing that the tail computes."""
    later = {op.output for index, op in enumerate(program.ops) if index not in head}
    return not any(name in later for index in head for name in program.ops[index].inputs)


def split_program(program: Program, head: Collection[int]) -> tuple[Program, Program]:
    """Returns the head and the tail.

    The head has the network's inputs, and the tensors that cross as outputs; the tail has these as inputs, and the
    network's outputs. The head may be empty, and then only hands the inputs over; so may the tail.

    Args:
        program: The whole network.
        head: Indices of its operators, with all that they read.

    Raises:
        ValueError: The head reads what the tail computes.
    """
    if not is_closed(program, head):
        raise ValueError("the head reads what the tail computes")
    crossing = find_crossing(program, head)
    send = [Reshape(name=f"{name}:send", input=name, output=sent_name(name)) for name in crossing]
    receive = [
        Reshape(name=f"{name}:receive", input=sent_name(name), output=name) for name in crossing
    ]
    first = [op for index, op in enumerate(program.ops) if index in head]
    rest = [op for index, op in enumerate(program.ops) if index not in head]
    sent = tuple(map(sent_name, crossing))
    return (
        _assemble(program, program.inputs, sent, [*first, *send]),
        _assemble(program, sent, program.outputs, [*receive, *rest]),
    )


def _assemble(
    program: Program, inputs: Sequence[str], outputs: Sequence[str], ops: Sequence[Op]
) -> Program:
    """Returns the part of ``program`` that computes ``outputs`` from ``inputs``, and what it needs of its tensors."""
    sent = {sent_name(name): tensor for name, tensor in program.tensors.items()}
    used = _unique([*inputs, *(name for op in ops for name in (*op.inputs, op.output)), *outputs])
    tensors = {
        name: program.tensors[name] if name in program.tensors else _sent(sent[name], name)
        for name in used
    }
    constants = {name: value for name, value in program.constants.items() if name in tensors}
    return Program(tensors, tuple(inputs), tuple(outputs), tuple(ops), constants)


def _sent(tensor: Tensor, name: str) -> Tensor:
    """Returns the caller's tensor: elements in the plan's order, which is nobody's but the two plans' own."""
    return replace(tensor, name=name, channels_last=False, flattened=None)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
