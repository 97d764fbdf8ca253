"""Costs on boards that are not there follow from the figures of their profiles."""

import dataclasses

import numpy as np
import pytest

from edgekit.converters.float_program import FloatFullyConnected
from edgekit.converters.program import DType, FullyConnected, Program, Requantize, Tensor
from edgekit.converters.prune.break_even import read_table
from edgekit.costs.cost_model import CostModel
from edgekit.targets.profile import Speed, list_profiles, load_profile

SPEED = Speed(8, 4, 2, 1, 0.5, 16)
MODEL = CostModel(SPEED, clock_mhz=2000, cache_bytes=4096, bandwidth_gb_s=1.0)


def make_program(rows, depth, count, *, real=False):
    dtype = DType.FLOAT32 if real else DType.CODE
    tensors = {
        name: Tensor(name, (rows, width), dtype, scale=np.float32(0.1), zero_point=0)
        for name, width in (("x", depth), ("y", count))
    }
    weights = np.zeros((count, depth), np.float32 if real else np.int8)
    bias = np.zeros(count, np.float32 if real else np.int32)
    if real:
        op = FloatFullyConnected(name="layer", input="x", output="y", weights=weights, bias=bias)
    else:
        op = FullyConnected(
            name="layer",
            input="x",
            output="y",
            weights=weights,
            bias=bias,
            multiplier=np.ones(count, np.float32),
        )
    return Program(tensors, (), (), (op,))


@pytest.mark.parametrize(("real", "rate"), [(False, 8), (True, 2)])
def test_products_bound_a_layer_whose_data_fit_the_cache(real, rate):
    (cost,) = MODEL.time_layers(make_program(16, 16, 16, real=real))
    assert cost == pytest.approx(16**3 / rate / 2000)


def test_a_layer_that_exceeds_the_cache_is_bound_by_memory():
    (cost,) = MODEL.time_layers(make_program(1, 128, 128))
    moved = 128 * 128 + 128 + 128
    assert cost == pytest.approx(moved / 1000)
    unknown = dataclasses.replace(MODEL, bandwidth_gb_s=None)
    assert unknown.time_layers(make_program(1, 128, 128)) == [pytest.approx(128 * 128 / 8 / 2000)]


def test_an_operator_without_products_moves_bytes():
    program = make_program(4, 64, 64)
    move = Requantize(name="move", input="x", output="y")
    moving = Program(program.tensors, (), (), (move,))
    assert MODEL.time_layers(moving) == [pytest.approx(2 * 4 * 64 / 16 / 2000)]


def test_conversions_cost_what_the_profile_says():
    quantizing, dequantizing = MODEL.time_conversions()
    assert quantizing == pytest.approx(1 / 0.5 / 2000)
    assert 0 < dequantizing < quantizing


@pytest.mark.parametrize("name", [name for name in list_profiles() if name != "host"])
def test_every_board_has_costs(name):
    profile = load_profile(name)
    model = CostModel.of_profile(profile, profile.isa)
    (int8,) = model.time_layers(make_program(64, 256, 256))
    (real,) = model.time_layers(make_program(64, 256, 256, real=True))
    # No kernel's float32 product is as cheap as its int8 one.
    assert 0 < int8 < real


def test_a_set_without_figures_has_those_of_its_family():
    profile = load_profile("x86-64-v4")
    assert CostModel.of_profile(profile, "x86_amx").speed.int8_products == 64


def test_blocks_of_zeros_save_what_the_table_says():
    random = np.random.default_rng(0)
    for isa in ("arm_neondot", "x86_avx512vnni"):
        row = next(row for row in read_table() if row.isa == isa and row.shape.m > 100)
        shape, block = row.shape, row.block
        program = make_program(shape.m, shape.k, shape.n)
        dense = random.integers(1, 100, (shape.n, shape.k)).astype(np.int8)
        panels, steps = shape.n // block.rows, shape.k // block.columns
        kept = np.arange(panels * steps).reshape(panels, steps) % 4 == 0
        mask = np.kron(kept, np.ones((block.rows, block.columns), bool))
        times = {}
        for name, weights in (("dense", dense), ("zeros", dense * mask)):
            op = dataclasses.replace(program.ops[0], weights=weights.astype(np.int8))
            fast = dataclasses.replace(MODEL, isa=isa, cache_bytes=None)
            times[name] = fast.time_layers(dataclasses.replace(program, ops=(op,)))[0]
        assert times["dense"] / times["zeros"] == pytest.approx(row.speedup(0.25), rel=0.05)
