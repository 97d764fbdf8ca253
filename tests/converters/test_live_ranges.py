"""What functions take for the same needs no codes: ranges end where it begins."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgekit.converters.calibrate import METHODS, RangeChoice, TensorSketch, calibrate
from edgekit.converters.quantization import get_quantization
from edgekit.converters.quantize import quantize
from edgekit.converters.read_onnx import infer_shapes
from edgekit.converters.regions import find_regions
from edgekit.converters.tables import code_table


def parse(body, outputs="float[N, 4, 6, 6] y"):
    proto = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 21]> net (float[N, 4, 6, 6] x) => ({outputs}) {{ {body} }}"""
    )
    weight = np.eye(4, dtype=np.float32)[:, :, None, None]
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([3]), "axes"))
    model = ir.from_proto(proto)
    infer_shapes(model)
    return model


def reach(model, name, lo=-40.0, hi=20.0, choice=None):
    """Returns the real ends of the grid of ``name``, calibrated with values from ``lo`` to ``hi``."""
    values = np.linspace(lo, hi, 144, dtype=np.float32).reshape(1, 4, 6, 6)
    made = quantize(
        model, calibrate(model, [{"x": values}]), method=choice or RangeChoice("minmax")
    )
    found = {value.name: value for node in made.graph for value in node.outputs}
    grid = get_quantization(found[name])
    return [float(grid.scale) * (code - grid.zero_point) for code in (-128, 127)]


def test_range_ends_where_hard_swish_is_zero():
    lo, hi = reach(parse("a = Conv (x, w) y = HardSwish (a)"), "a")
    # Within a step of where it leaves 0.
    assert -3.2 < lo < -2.5
    assert hi == pytest.approx(20.0, abs=0.2)


def test_range_ends_where_sigmoid_is_saturated():
    lo, hi = reach(parse("a = Conv (x, w) y = Sigmoid (a)"), "a", -40, 40)
    assert -7 < lo < -5
    assert 5 < hi < 7


def test_range_ends_through_what_moves_codes():
    body = "a = Conv (x, w) b = Transpose <perm = [0, 1, 3, 2]> (a) y = HardSwish (b)"
    assert reach(parse(body), "a")[0] > -3.2


def test_range_stays_where_something_else_reads_it():
    body = "a = Conv (x, w) b = HardSwish (a) y = Add (a, b)"
    assert reach(parse(body), "a")[0] == pytest.approx(-40, abs=0.5)
    body = "a = Conv (x, w) y = HardSwish (a)"
    both = "float[N, 4, 6, 6] y, float[N, 4, 6, 6] a"
    assert reach(parse(body, both), "a")[0] == pytest.approx(-40, abs=0.5)
    body = "a = Conv (x, w) b = HardSwish (a) c = Sin (a) y = Add (b, c)"
    assert reach(parse(body), "a", -2.9, 3)[0] == pytest.approx(-2.9, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "body",
    ["a = Conv (x, w) y = HardSwish (a)", "a = Conv (x, w) b = Sigmoid (a) y = Mul (a, b)"],
    ids=["hard-swish", "swish"],
)
def test_what_saturates_gets_the_code_of_what_lies_beyond(body, method):
    model = parse(body)
    for hi in np.linspace(4, 28, 7):
        values = np.linspace(-40, hi, 144, dtype=np.float32).reshape(1, 4, 6, 6)
        made = quantize(model, calibrate(model, [{"x": values}]), method=RangeChoice(method))
        found = {str(value.name): value for node in made.graph for value in node.outputs}
        (region,) = (each for each in find_regions(made.graph).values() if each.source.name == "a")
        source, target = (get_quantization(found[name]) for name in "ay")
        table = code_table(region.function(), source, target)
        assert table[0] == target.zero_point, hi
        assert float(source.scale) * (-128 - source.zero_point) > -9


@pytest.mark.parametrize("method", METHODS)
def test_every_method_leaves_out_what_is_the_same(method):
    lo, hi = reach(parse("a = Conv (x, w) y = HardSwish (a)"), "a", choice=RangeChoice(method))
    assert lo > -3.5
    assert 15 < hi < 20.5


def test_cut_sketch_holds_as_many_values():
    sketch = TensorSketch()
    sketch.add(np.float32([-9, -2, 0, 1, 7, 8]))
    cut = sketch.within(-3, 5)
    assert (cut.lo, cut.hi, cut.total) == (-3, 5, 6)
    assert cut is sketch.within(-3, 5)
    beyond = sketch.within(9.5, 11)
    assert (beyond.lo, beyond.hi, beyond.total) == (9.5, 9.5, 6)
