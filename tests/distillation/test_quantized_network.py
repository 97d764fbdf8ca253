"""The network of rounded numbers gives the codes of the reference, format by format."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="make test-torch has an environment with torch")

from networks_for_training import make_images, read, write_cnn, write_recurrent  # noqa: E402

from edgekit.converters.calibrate import calibrate  # noqa: E402
from edgekit.converters.float_reference import quantize_rows  # noqa: E402
from edgekit.converters.lower import lower  # noqa: E402
from edgekit.converters.number_formats import NumberFormat  # noqa: E402
from edgekit.converters.quantization import (  # noqa: E402
    ActivationQuantization,
    get_quantization,
    stays_float,
)
from edgekit.converters.quantize import quantize  # noqa: E402
from edgekit.converters.quantize.weights import quantize_layer  # noqa: E402
from edgekit.converters.reference import run_program  # noqa: E402
from edgekit.converters.round_weights import InputStatistics  # noqa: E402
from edgekit.distillation import QuantizedNetwork, Settings  # noqa: E402
from edgekit.distillation.fake_quantize import (  # noqa: E402
    least_scale,
    round_rows,
    round_to_grid,
    round_weights,
)
from edgekit.distillation.settle import settle  # noqa: E402

# Of all codes, so many may be one away where a sum of floats falls on the other side of the middle.
MOST_APART = 1e-3


def make_network(path, samples, chosen=None, **arguments):
    def make(model, taken):
        return quantize(model, calibrate(model, taken), tables=False, **arguments)

    return QuantizedNetwork(read(path), make, samples, chosen or Settings())


def compare(network, sample):
    """Checks every value's codes, and the outputs, with the reference's."""
    program = lower(network.model, 1, fuse=False)
    wanted = run_program(program, sample)
    values = {str(v.name): v for node in network.nodes for v in node.outputs}
    with torch.no_grad():
        found = network({k: torch.from_numpy(v) for k, v in sample.items()}, list(values))
    count = apart = 0
    for name, value in values.items():
        record, maker = get_quantization(value), value.producer()
        if not isinstance(record, ActivationQuantization) or stays_float(maker):
            continue
        tensor = program.tensors.get(name)
        if tensor is None or wanted[name].dtype != np.int8:
            continue
        codes = np.rint(found[name].numpy() / record.scale).astype(int) + record.zero_point
        other = wanted[name].astype(int)
        if other.shape != codes.shape:
            other = other.transpose(0, 3, 1, 2)
        difference = np.abs(codes - other)
        assert difference.max() <= 1, name
        count, apart = count + difference.size, apart + int((difference > 0).sum())
    assert apart <= MOST_APART * max(count, 1)
    for name in network.output_names:
        steps = get_quantization(values[name])
        bound = 1.01 * float(steps.scale) if isinstance(steps, ActivationQuantization) else 1e-4
        np.testing.assert_allclose(found[name].numpy(), wanted[name], atol=bound)
    return count


def images(count=24):
    return [{"image": image[None]} for image in make_images(count)]


def test_codes_are_those_of_the_reference(tmp_path):
    samples = images()
    network = make_network(write_cnn(tmp_path / "n.onnx"), samples)
    assert compare(network, samples[3]) > 5000
    settle(network)
    assert compare(network, samples[5]) > 5000


@pytest.mark.parametrize("name", ["int4", "int8-rows", "int8-tensor", "16x8", "float16"])
def test_every_number_format(name, tmp_path):
    samples = images()
    layer = {"head": NumberFormat(name)}
    if name in ("int4", "16x8"):
        layer["conv3"] = NumberFormat(name)
    network = make_network(write_cnn(tmp_path / "n.onnx"), samples, formats=layer)
    compare(network, samples[0])
    settle(network)
    compare(network, samples[1])


def test_int4_in_groups(tmp_path):
    samples = images()
    four = {"head": NumberFormat("int4")}
    network = make_network(
        write_cnn(tmp_path / "n.onnx"), samples, formats=four, int4_groups={"head": 32}
    )
    compare(network, samples[0])
    settle(network)
    compare(network, samples[1])


def test_recurrent_weights(tmp_path):
    random = np.random.default_rng(0)
    samples = [{"x": random.normal(0, 1, (5, 1, 6)).astype(np.float32)} for _ in range(8)]
    network = make_network(write_recurrent(tmp_path / "n.onnx"), samples)
    compare(network, samples[0])
    settle(network)
    compare(network, samples[1])


def test_learned_scales_settle_as_they_were_trained(tmp_path):
    samples = images()
    network = make_network(write_cnn(tmp_path / "n.onnx"), samples, Settings(scales="learned"))
    with torch.no_grad():
        for scale in network.further():
            scale.mul_(0.9)
    given = {"image": torch.from_numpy(np.concatenate([s["image"] for s in samples]))}
    with torch.no_grad():
        before = network(given)["logits"]
    settle(network)
    with torch.no_grad():
        assert torch.equal(before, network(given)["logits"])
    compare(network, samples[2])


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(-128, 127), st.floats(1e-3, 10))
def test_grids(seed, zero_point, scale):
    random = np.random.default_rng(seed)
    step = np.float32(scale)
    lo = int(random.integers(-128, zero_point + 1))
    hi = int(random.integers(zero_point, 128))
    codes = random.integers(-400, 400, 200)
    # Well away from the middle between two codes, where a product with 1 / s may differ from a quotient.
    x = ((codes + random.uniform(-0.49, 0.49, 200)) * step).astype(np.float32)
    wanted = (np.clip(np.rint(x / step), lo - zero_point, hi - zero_point) * step).astype(
        np.float32
    )
    tensor = torch.from_numpy(x).requires_grad_()
    found = round_to_grid(tensor, ActivationQuantization(step, zero_point, lo, hi))
    np.testing.assert_array_equal(found.detach().numpy(), wanted)
    found.sum().backward()
    inside = (np.rint(x / step) >= lo - zero_point) & (np.rint(x / step) <= hi - zero_point)
    np.testing.assert_array_equal(tensor.grad.numpy(), inside.astype(np.float32))


def test_what_is_no_number_is_the_lowest_code():
    grid = ActivationQuantization(np.float32(0.5), 3, -100, 127)
    found = round_to_grid(torch.tensor([np.nan, np.inf, -np.inf]), grid)
    assert found.tolist() == [-51.5, 62.0, -51.5]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_scales_and_codes_of_weights_are_those_of_quantize(seed):
    random = np.random.default_rng(seed)
    weight = random.normal(0, random.uniform(0.01, 3), (7, 5)).astype(np.float32)
    weight[random.random(weight.shape) < 0.3] = 0
    nothing = InputStatistics(np.zeros((7, 5)), np.zeros((7, 5)))

    def nearest(targets, inputs, limit, *_):
        return np.rint(targets).clip(-limit, limit)

    layer = quantize_layer(weight, None, np.float32(1), 0, nothing, nearest)
    scale = least_scale(torch.from_numpy(weight), 0, 127)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    np.testing.assert_array_equal(scale.numpy(), layer.weight.scale)
    rounded = round_weights(torch.from_numpy(weight), scale[:, None], -127, 127)
    codes = np.rint(rounded.numpy() / layer.weight.scale[:, None])
    # A float32 quotient may fall on the other side of the middle.
    places = np.abs(weight / layer.weight.scale[:, None]) % 1
    assert (np.abs(codes - layer.weight.codes) <= (np.abs(places - 0.5) < 1e-4)).all()
    assert (codes[weight == 0] == 0).all()


def test_rows_have_the_codes_of_the_reference():
    random = np.random.default_rng(0)
    x = random.normal(0, 1, (6, 40)).astype(np.float32)
    x[2] = 0
    for whole in (False, True):
        codes, scale = quantize_rows(x, whole=whole)
        found = round_rows(torch.from_numpy(x), whole=whole).numpy()
        np.testing.assert_allclose(found, codes * scale, rtol=1e-6)
