"""What no memory can hold, or no network means, is refused by name before it is computed."""

import onnx
import pytest

from edgekit.converters.check_sizes import check_sizes
from edgekit.converters.passes import simplify
from edgekit.converters.read_onnx import read_onnx
from edgekit.targets.errors import ModelError


def check(tmp_path, text):
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}')
    onnx.save(model, tmp_path / "net.onnx")
    graph = read_onnx(tmp_path / "net.onnx")
    simplify(graph)
    check_sizes(graph)


def pad(rows):
    return (
        "net (float[1, 3, 8, 8] x) => (float y[1, 3, H, 8]) "
        f"<int64[8] pads = {{0, 0, {rows}, 0, 0, 0, 0, 0}}> {{ q = Relu (x) y = Pad (q, pads) }}"
    ).replace("float y[1, 3, H, 8]", "float[1, 3, H, 8] y")


@pytest.mark.parametrize("rows", [0, 1, 65535, -2])
def test_pads_that_a_plan_takes(tmp_path, rows):
    check(tmp_path, pad(rows))


@pytest.mark.parametrize("rows", [65536, 10**6, 2**40])
def test_pads_beyond_are_refused(tmp_path, rows):
    with pytest.raises(ModelError, match=f"Pad .*pads by {rows} elements"):
        check(tmp_path, pad(rows))


def test_tensors_beyond_memory_are_refused(tmp_path):
    text = "net (float[N, 3, 1000000, 1000000] x) => (float[N, 3, 1000000, 1000000] y) { y = Relu (x) }"
    with pytest.raises(
        ModelError, match=r"input 'x' has the shape .* more than the .* GB of memory"
    ):
        check(tmp_path, text)
