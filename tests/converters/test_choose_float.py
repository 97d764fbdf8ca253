"""The choice between int8 and float32 is the cheapest assignment, conversions counted."""

import itertools

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgekit.converters.choose_float import (
    Costs,
    choose_at_price,
    choose_float,
    noise_left,
    weights_of,
)
from edgekit.converters.quantizable import obstacle

BODY = """
a = Conv (x, w) b = Relu (a) c = LayerNormalization <axis = 3> (b, s) d = Add (c, b) e = Conv (d, w) f = Sigmoid (e)
y = Div (f, d)
"""


def make(body=BODY):
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 21]> net (float[1, 8, 4, 4] x) => (float[1, 8, 4, 4] y) {{ {body} }}'
    )
    for name, shape in {"w": (8, 8, 1, 1), "s": (4,)}.items():
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(np.ones(shape, np.float32), name)
        )
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(model)).graph
    for node in graph:
        node.name = node.outputs[0].name
    return graph


def total(graph, costs, real):
    """Returns what an assignment costs: `real` names the nodes in float32."""
    names = [node.name for node in graph]
    sizes = 128
    cost = sum(costs.real[name] if name in real else costs.int8[name] for name in names)
    for value in [*graph.inputs, *(value for node in graph for value in node.outputs)]:
        maker = value.producer()
        is_real = maker is None or maker.name in real
        readers = {use.node.name in real for use in value.uses()}
        if value.is_graph_output():
            readers.add(True)
        if not is_real and True in readers:
            cost += sizes * costs.dequantize
        if is_real and False in readers:
            cost += sizes * costs.quantize
    return cost


@pytest.mark.parametrize("seed", range(12))
def test_no_assignment_is_cheaper(seed):
    graph = make()
    rng = np.random.default_rng(seed)
    names = [node.name for node in graph]
    int8 = {name: float(rng.integers(0, 40)) for name in names}
    real = {name: float(rng.integers(0, 40)) for name in names}
    costs = Costs(int8, real, rng.uniform(0, 0.2), rng.uniform(0, 0.2))
    forced = {node.name for node in graph if obstacle(node) is not None}
    chosen = choose_float(graph, costs) | forced
    options = []
    for choice in itertools.product((False, True), repeat=len(names)):
        kept = {name for name, stays in zip(names, choice, strict=True) if stays}
        if forced <= kept and ("a" in kept) == ("b" in kept):
            options.append(total(graph, costs, kept))
    assert total(graph, costs, chosen) == pytest.approx(min(options))


def test_int8_is_kept_where_float_is_hardly_faster():
    graph = make("a = Conv (x, w) y = Conv (a, w)")
    costs = Costs({"a": 10.0, "y": 10.0}, {"a": 9.8, "y": 9.8}, 0.0, 0.0)
    assert choose_float(graph, costs) == {"a", "y"}
    assert choose_float(graph, costs, margin=1.05) == frozenset()


def test_conversions_count():
    graph = make()
    int8 = {node.name: 1.0 for node in graph}
    real = {node.name: 4.0 for node in graph}
    cheap = choose_float(graph, Costs(int8, real, 0.0, 0.0))
    dear = choose_float(graph, Costs(int8, real, 1.0, 1.0))
    assert cheap == frozenset()
    assert {"d", "e"} <= dear


def test_noise_is_counted_where_a_value_is_held_in_codes():
    graph = make("a = Conv (x, w) r = Transpose (a) y = Conv (r, w)")
    noise = {"x": 1.0, "a": 2.0, "y": 4.0}
    assert noise_left(graph, noise, ()) == 7.0
    assert noise_left(graph, noise, {"a", "r"}) == 6.0
    assert noise_left(graph, noise, {"y"}) == 3.0
    assert noise_left(graph, noise, {"a", "r", "y"}) == 0.0


@pytest.mark.parametrize("seed", range(8))
def test_a_choice_is_the_cheapest_of_those_with_no_more_noise(seed):
    graph = make()
    rng = np.random.default_rng(seed)
    names = [node.name for node in graph]
    int8 = dict.fromkeys(names, 1.0)
    real = {name: float(rng.uniform(1, 5)) for name in names}
    costs = Costs(int8, real, 0.001, 0.001)
    noise = {name: float(rng.uniform(0, 1)) for name in (*names, "x")}
    forced = {node.name for node in graph if obstacle(node) is not None}
    options = []
    for choice in itertools.product((False, True), repeat=len(names)):
        kept = {name for name, stays in zip(names, choice, strict=True) if stays}
        if forced <= kept and ("a" in kept) == ("b" in kept):
            options.append((noise_left(graph, noise, kept), total(graph, costs, kept)))
    free = choose_float(graph, costs)
    assert choose_at_price(graph, costs, noise, 0.0) == free
    left = noise_left(graph, noise, free)
    for price in (0.1, 1.0, 3.0, 10.0, 1000.0):
        chosen = choose_at_price(graph, costs, noise, price)
        now = noise_left(graph, noise, chosen)
        assert now <= left + 1e-9
        left = now
        cheapest = min(cost for power, cost in options if power <= now + 1e-9)
        assert total(graph, costs, chosen | forced) <= cheapest + 1e-6
    assert left == pytest.approx(min(power for power, _ in options))


@pytest.mark.parametrize(
    ("coded", "real", "noise", "is_float"),
    [
        (10.0, 30.0, 0.0, False),
        (30.0, 10.0, 0.0, True),
        # As fast: smaller.
        (10.0, 10.0, 0.0, False),
        # Noise is paid for like time.
        (10.0, 30.0, 25.0, True),
    ],
)
def test_weights_of_a_recurrent_layer_are_a_choice_of_their_own(coded, real, noise, is_float):
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> net (float[3, 1, 8] x) => (float[3, 1, 1, 4] y) '
        "{ a = Relu (x) y = LSTM <hidden_size = 4> (a, w, r) }"
    )
    for name, shape in {"w": (1, 16, 8), "r": (1, 16, 4)}.items():
        array = np.ones(shape, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(model)).graph
    for node in graph:
        node.name = node.outputs[0].name
    layer = list(graph)[-1]
    costs = Costs({"a": 1.0, "y": coded}, {"a": 1.0, "y": real}, 0.1, 0.1)
    chosen = choose_at_price(graph, costs, {weights_of(layer): noise}, 1.0)
    assert ("y" in chosen) == is_float
