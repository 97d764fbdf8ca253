"""Where a network can be cut, and what each cut costs.

A cut is a set of operators that is closed under what they read. Its cost::

    time of the head + (bytes that cross + bytes of the answer) / bandwidth + latency + time of the tail

Neurosurgeon (Kang et al., ASPLOS 2017) tries every layer of a chain; here any closed set counts whose border few
tensors cross, so that branches can be cut beside each other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from edgekit.converters.program import Program
from edgekit.converters.split_program import find_crossing
from edgekit.partition.wire import Wire

# Of closed sets; beyond them only those that the order of execution passes through are tried.
_MOST_SETS = 20_000


@dataclass(frozen=True)
class Cut:
    """A cut and its cost.

    Attributes:
        head: Indices of the operators on the first device.
        crossing: Tensors that cross.
        sent_bytes: Of these, as a frame carries them.
        answer_bytes: Of the network's outputs, likewise.
        head_us: Time on the first device.
        link_us: Time on the way, there and back.
        tail_us: Time on the second device.
    """

    head: frozenset[int]
    crossing: tuple[str, ...]
    sent_bytes: int
    answer_bytes: int
    head_us: float
    link_us: float
    tail_us: float

    @property
    def total_us(self) -> float:
        """Time of all."""
        return self.head_us + self.link_us + self.tail_us


@dataclass(frozen=True)
class Search:
    """Closed sets of operators.

    Attributes:
        heads: Each with some operators but not all, in order of size.
        is_complete: Whether none was left out for their number.
    """

    heads: tuple[frozenset[int], ...]
    is_complete: bool


def list_heads(program: Program, most_tensors: int, most_sets: int = _MOST_SETS) -> Search:
    """Returns the heads whose border at most ``most_tensors`` tensors cross.

    Sets are grown an operator at a time through all sets that at most twice as many tensors cross, the prefixes of the
    order of execution among them.
    """
    count = len(program.ops)
    prefixes = [frozenset(range(size)) for size in range(1, count)]
    writer = {op.output: index for index, op in enumerate(program.ops)}
    needs = [frozenset(writer[name] for name in op.inputs if name in writer) for op in program.ops]
    seen: set[frozenset[int]] = {frozenset()}
    front = [frozenset[int]()]
    is_complete = True
    while front and is_complete:
        grown: dict[frozenset[int], None] = {}
        for head in front:
            for index in range(count):
                if index in head or not needs[index] <= head:
                    continue
                larger = head | {index}
                if larger in seen or larger in grown:
                    continue
                if len(find_crossing(program, larger)) <= 2 * most_tensors:
                    grown[larger] = None
        seen.update(grown)
        front = list(grown)
        is_complete = len(seen) <= most_sets
    found = {*seen, *prefixes} if is_complete else {*prefixes}
    heads = [
        head
        for head in found
        if 0 < len(head) < count and len(find_crossing(program, head)) <= most_tensors
    ]
    return Search(tuple(sorted(heads, key=lambda head: (len(head), sorted(head)))), is_complete)


def rate_cut(
    program: Program,
    head: Collection[int],
    head_us: Sequence[float],
    tail_us: Sequence[float],
    wire: Wire,
) -> Cut:
    """Returns a cut with its cost.

    Args:
        program: The whole network.
        head: Indices of the operators on the first device; all of them use no link.
        head_us: Time of each operator there.
        tail_us: Time of each operator on the second device.
        wire: What lies between.
    """
    crossing = find_crossing(program, head)
    sent = sum(_padded(program.tensors[name].nbytes) for name in crossing)
    answer = sum(_padded(program.tensors[name].nbytes) for name in program.outputs)
    whole = len(head) == len(program.ops)
    return Cut(
        frozenset(head),
        () if whole else crossing,
        0 if whole else sent,
        0 if whole else answer,
        sum(head_us[index] for index in head),
        0.0 if whole else wire.carry_us(sent, answer),
        sum(time for index, time in enumerate(tail_us) if index not in head),
    )


def _padded(size: int) -> int:
    return (size + 7) // 8 * 8
