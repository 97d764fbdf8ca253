"""FuseActivations: makes activation functions that are written out one operator."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from edgekit.converters.passes.rewrite import GraphPass, Skip, constant, replace

_CLOSE = 1e-6
# How deep the half of a GELU may hide in products.
_NESTED = 2


class FuseActivations(GraphPass):
    """Makes activation functions that are written out one operator.

    Rules, the operands of Add and Mul in any order, a division by c as good as a product with 1 / c:
        ``Clip(x + 3, 0, 6) / 6 -> HardSigmoid(x)`` with alpha 1/6;
        ``x * HardSigmoid(x) -> HardSwish(x)`` with alpha 1/6 and beta 1/2;
        ``x * Clip(x + 3, 0, 6) / 6 -> HardSwish(x)``;
        ``x * (Erf(x / sqrt(2)) + 1) / 2 -> Gelu(x)``, the half anywhere among the factors.
    """

    ops = frozenset({"Mul", "Div"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces ``node``."""
        for find, op_type, attributes in (
            (_gelu, "Gelu", {}),
            (_hard_swish, "HardSwish", {}),
            (_hard_sigmoid, "HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
        ):
            source = find(node)
            if source is not None and source.dtype == ir.DataType.FLOAT:
                replace(graph, node, ir.node(op_type, [source], attributes, name=node.name))
                return f"became {op_type}"
        return None


def _hard_sigmoid(node: ir.Node) -> ir.Value | None:
    return next((_ramp(value) for value in _scaled(node, 1 / 6) if _ramp(value) is not None), None)


def _hard_swish(node: ir.Node) -> ir.Value | None:
    """Returns x where ``node`` is x times its hard-sigmoid, or x times its ramp over 6."""
    for x, gate in _pairs(node, "Mul"):
        maker = gate.producer()
        if maker is None or maker.domain:
            continue
        if maker.op_type == "HardSigmoid" and maker.inputs[0] is x and _is_sixth(maker):
            return x
        if any(_ramp(value) is x for value in _scaled(maker, 1 / 6)):
            return x
    for product in _scaled(node, 1 / 6):
        maker = product.producer()
        if maker is None or maker.domain:
            continue
        for x, ramp in _pairs(maker, "Mul"):
            if _ramp(ramp) is x:
                return x
    return None


def _gelu(node: ir.Node) -> ir.Value | None:
    """Returns x where ``node`` is ``0.5 * x * (1 + Erf(x / sqrt(2)))``, in any order of its factors."""
    factors, number = _factors(node)
    if len(factors) != 2 or abs(number - 0.5) > _CLOSE:
        return None
    for x, gate in (factors, factors[::-1]):
        erf = next((value for value in _shifted(gate.producer(), 1.0)), None)
        maker = None if erf is None else erf.producer()
        if maker is None or maker.domain or maker.op_type != "Erf" or maker.inputs[0] is None:
            continue
        inner = maker.inputs[0].producer()
        if any(value is x for value in _scaled(inner, 2**-0.5)):
            return x
    return None


def _is_sixth(node: ir.Node) -> bool:
    alpha, beta = node.attributes.get("alpha"), node.attributes.get("beta")
    return (
        alpha is not None
        and abs(alpha.as_float() - 1 / 6) < _CLOSE
        and (beta is None or abs(beta.as_float() - 0.5) < _CLOSE)
    )


def _ramp(value: ir.Value | None) -> ir.Value | None:
    """Returns x where ``value`` is ``Clip(x + 3, 0, 6)``."""
    node = None if value is None else value.producer()
    if node is None or node.domain or node.op_type != "Clip" or len(node.inputs) != 3:
        return None
    if (_number(node.inputs[1]), _number(node.inputs[2])) != (0.0, 6.0):
        return None
    inner = None if node.inputs[0] is None else node.inputs[0].producer()
    return next(iter(_shifted(inner, 3.0)), None)


def _number(value: ir.Value | None) -> float | None:
    """Returns a single constant, of a rank that broadcasts to any tensor's."""
    array = constant(value)
    if array is None or array.size != 1 or array.ndim > 1:
        return None
    return float(np.asarray(array, np.float64).reshape(()))


def _pairs(node: ir.Node, op_type: str) -> Iterator[tuple[ir.Value, ir.Value]]:
    if node.op_type == op_type and not node.domain:
        a, b = node.inputs
        if a is not None and b is not None:
            yield a, b
            yield b, a


def _shifted(node: ir.Node | None, number: float) -> Iterator[ir.Value]:
    """Yields x where ``node`` is ``x + number``."""
    if node is None:
        return
    for x, other in _pairs(node, "Add"):
        found = _number(other)
        if found is not None and abs(found - number) <= _CLOSE:
            yield x


def _scaled(node: ir.Node | None, number: float) -> Iterator[ir.Value]:
    """Yields x where ``node`` is ``x * number``."""
    if node is None or node.domain:
        return
    for x, other in _pairs(node, "Mul"):
        found = _number(other)
        if found is not None and abs(found - number) <= _CLOSE:
            yield x
    if node.op_type == "Div" and node.inputs[0] is not None:
        found = _number(node.inputs[1])
        if found and abs(1 / found - number) <= _CLOSE:
            yield node.inputs[0]


def _factors(node: ir.Node) -> tuple[list[ir.Value], float]:
    """Returns the computed factors of a product and the product of its constants, through products by a constant."""
    values: list[ir.Value] = []
    number = 1.0
    waiting = [(node, 0)]
    while waiting:
        current, depth = waiting.pop()
        operands = [value for value in current.inputs[:2] if value is not None]
        numbers = [_number(value) for value in operands]
        if current.op_type == "Div":
            if not numbers[1]:
                return [], 0.0
            number /= numbers[1]
            operands, numbers = operands[:1], numbers[:1]
        by_constant = current.op_type == "Div" or any(found is not None for found in numbers)
        for value, found in zip(operands, numbers, strict=True):
            maker = value.producer()
            if found is not None:
                number *= found
            elif depth < _NESTED and _is_product(maker, of_constant=not by_constant):
                assert maker is not None
                waiting.append((maker, depth + 1))
            else:
                values.append(value)
    return values, number


def _is_product(node: ir.Node | None, *, of_constant: bool) -> bool:
    """Returns whether ``node`` is a product, with a constant among its factors where that is asked for."""
    if node is None or node.domain or node.op_type not in ("Mul", "Div"):
        return False
    return not of_constant or any(_number(value) is not None for value in node.inputs[:2])
