"""Which layers may change their number format one at a time, and how answers are compared when one did.

A part is what changes as a whole: a layer with the clamp behind it, a region (``find_regions``), or neighbours of these
where a network has very many. What is not part of any, where codes only move, goes with what is before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.can_hold import can_hold
from edgekit.converters.changed_answers import DISTRIBUTION, LOGITS, name_kind
from edgekit.converters.choose_float import find_units
from edgekit.converters.noise import Answer
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.quantizable import MOVES, is_depthwise

# Formats in the order in which they are told; float32 is what they are compared with.
CHANGES = tuple(format for format in NumberFormat if format is not NumberFormat.FLOAT32)
_SMALLEST = 1e-12

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """Nodes that have one format.

    Attributes:
        name: Of the first one that computes.
        kinds: Their operators, joined by "+".
        nodes: Their names, in graph order.
        formats: What they can have besides float32.
    """

    name: str
    kinds: str
    nodes: tuple[str, ...]
    formats: tuple[NumberFormat, ...]


def list_parts(
    graph: ir.Graph,
    formats: Sequence[NumberFormat] = CHANGES,
    *,
    fixed: Iterable[str] = (),
    most: int = 160,
) -> list[Part]:
    """Returns the parts of a simplified float graph that can have any of ``formats``, in graph order.

    Args:
        graph: Of the float model.
        formats: Those to ask for.
        fixed: Names of nodes that are not to be changed.
        most: Parts at most: where there are more, neighbours are one.
    """
    units = find_units(graph)
    held = set(fixed)
    groups: dict[object, list[ir.Node]] = {}
    for node in graph:
        if node.op_type not in MOVES or isinstance(units[node], tuple):
            groups.setdefault(units[node], []).append(node)
    wanted = [
        nodes
        for nodes in groups.values()
        if not any(node.name in held for node in nodes) and _list_formats(nodes, formats)
    ]
    size = -(-len(wanted) // max(most, 1)) or 1
    merged = [list(chain(*wanted[i : i + size])) for i in range(0, len(wanted), size)]
    return [
        Part(
            nodes[0].name or "",
            "+".join(dict.fromkeys(node.op_type for node in nodes)),
            tuple(node.name or "" for node in nodes),
            _list_formats(nodes, formats),
        )
        for nodes in merged
    ]


def spell_formats(
    graph: ir.Graph, parts: Sequence[Part], chosen: Mapping[str, NumberFormat]
) -> dict[str, NumberFormat]:
    """Returns the formats of all nodes that are not int8, as `quantize` takes them.

    Of a part whose format some nodes cannot have, those are int8 where the format has grids and int8 holds them, and
    float32 otherwise.

    Args:
        graph: Of the float model.
        parts: Of it.
        chosen: Formats by the names of parts; float32 where a part is missing.
    """
    homes = {
        name: chosen.get(part.name, NumberFormat.FLOAT32) for part in parts for name in part.nodes
    }
    found: dict[str, NumberFormat] = {}
    kinds: dict[ir.Node, NumberFormat] = {}
    for node in graph:
        name = node.name or ""
        if name in homes:
            kinds[node] = _settle(node, homes[name])
        elif node.op_type in MOVES:
            kinds[node] = _follow(node, kinds, homes)
        else:
            continue
        if kinds[node] is not NumberFormat.INT8:
            found[name] = kinds[node]
    return found


def leave_depthwise(
    graph: ir.Graph, formats: Mapping[str, NumberFormat]
) -> dict[str, NumberFormat]:
    """Returns ``formats`` without those of depthwise convolutions and of the clamps behind them: these are int8."""
    left = {node.name or "" for node in graph if is_depthwise(node)}
    for node in graph:
        source = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        if node.op_type in ("Clip", "Relu") and source is not None and source.name in left:
            left.add(node.name or "")
    return {name: format for name, format in formats.items() if name not in left}


def diverge(wanted: Sequence[Answer], given: Sequence[Answer]) -> float | None:
    """Returns the Kullback-Leibler divergence of the answers, in nats, of the output that diverges most.

    ``sum p ln(p / q)`` over the last dimension, the mean over the others and the samples, with p from ``wanted``.
    Outputs whose last dimension sums to 1 are distributions; others between 0 and 1 are the chances of yes against no,
    each by itself; of what is left, matrices are logits, whose softmax is compared. None where there is no such output.
    """
    worst = None
    for name, first in wanted[0].items() if wanted else ():
        if first.dtype.kind != "f" or not first.size:
            continue
        pairs = [(_real(a[name]), _real(b[name])) for a, b in zip(wanted, given, strict=True)]
        terms = [_diverge_each(p, q, name_kind([p for p, _ in pairs])) for p, q in pairs]
        if any(term is None for term in terms):
            continue
        mean = float(
            np.mean(np.concatenate([np.ravel(term) for term in terms if term is not None]))
        )
        worst = mean if worst is None else max(worst, mean)
    return worst


def _list_formats(
    nodes: Sequence[ir.Node], formats: Sequence[NumberFormat]
) -> tuple[NumberFormat, ...]:
    return tuple(
        format for format in formats if any(can_hold(node, format) is None for node in nodes)
    )


def _settle(node: ir.Node, format: NumberFormat) -> NumberFormat:
    """Returns what ``node`` of a part in ``format`` is computed in."""
    if can_hold(node, format) is None:
        return format
    if (format.is_static or format.has_parts) and can_hold(node, NumberFormat.INT8) is None:
        return NumberFormat.INT8
    return NumberFormat.FLOAT32


def _follow(
    node: ir.Node, kinds: Mapping[ir.Node, NumberFormat], homes: Mapping[str, NumberFormat]
) -> NumberFormat:
    """Returns the format of a node that only moves elements: codes where they come, or else go, as codes."""
    source = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
    if source is not None:
        is_static = source in kinds and kinds[source].is_static
    else:
        readers = [
            homes[use.node.name or ""] for use in node.outputs[0].uses() if use.node.name in homes
        ]
        is_static = any(format.is_static for format in readers)
    return NumberFormat.INT8 if is_static else NumberFormat.FLOAT32


def _real(array: npt.NDArray[np.generic]) -> Reals:
    return array.astype(np.float64)


def _diverge_each(p: Reals, q: Reals, kind: str) -> Reals | None:
    """Returns the divergence of each row, None for numbers that are no chances."""
    if not kind:
        return None
    if not np.isfinite(q).all():
        return np.full(p.shape[:-1], np.inf)
    if kind == LOGITS:
        a, b = _log_softmax(p), _log_softmax(q)
        return np.asarray((np.exp(a) * (a - b)).sum(axis=-1))
    p, q = (np.clip(array, _SMALLEST, 1) for array in (p, q))
    if kind == DISTRIBUTION:
        return np.asarray((p * np.log(p / q)).sum(axis=-1))
    rest_p, rest_q = (np.clip(1 - array, _SMALLEST, 1) for array in (p, q))
    return np.asarray(p * np.log(p / q) + rest_p * np.log(rest_p / rest_q))


def _log_softmax(x: Reals) -> Reals:
    shifted = x - x.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
