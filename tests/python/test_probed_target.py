"""A probed profile is a target like any other, and what was measured on the device decides its layers."""

import dataclasses
import math
from pathlib import Path

import pytest

import edgekit
from edgekit import _native
from edgekit.bundles.bundle import read_bundle
from edgekit.delivery.measured import store
from edgekit.targets.profile import load_profile
from edgekit.targets.write_profile import write_profile

pytestmark = pytest.mark.slow
DUMPS = Path(__file__).parents[1] / "targets/dumps"


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """This machine as probed; with a clock, whatever it tells of that."""
    path = tmp_path_factory.mktemp("boards") / "desk.toml"
    probed = edgekit.probe("local", output=path).profile
    source = {**probed.cpu.source, "clock_mhz": "a test's"}
    cpu = dataclasses.replace(probed.cpu, clock_mhz=2000, isa=_native.best_isa(), source=source)
    write_profile(path, dataclasses.replace(probed, cpu=cpu))
    return path


def test_what_was_measured_decides_which_layers_are_int8(cnn, images, profile, tmp_path):
    deployed = edgekit.deploy(
        cnn, target=profile, calibration=images, output=tmp_path / "a", precision="int8"
    )
    bundle = read_bundle(deployed.path)
    assert bundle.target.name == "desk"
    assert bundle.target.isa == load_profile(profile).isa
    measured = deployed.benchmark_on("local", seconds=0.1)
    assert measured.answers == "equal"
    # As if the device took a thousand times as long for products of int8, or a thousandth.
    chosen = {}
    for factor in (1e3, 1e-3):
        layers = tuple(
            dataclasses.replace(layer, median_us=layer.median_us * factor)
            if layer.kind in ("Conv", "DepthwiseConv", "FullyConnected")
            else layer
            for layer in measured.layers
        )
        _, speed = store(dataclasses.replace(measured, layers=layers), profile)
        assert load_profile(profile).speed == speed
        report = edgekit.deploy(
            cnn, target=profile, calibration=images, output=tmp_path / f"b{factor}"
        ).report
        assert report.precision.how == "modelled"
        assert any("chosen by the speed of desk, measured on " in note for note in report.notes)
        chosen[factor] = report.precision.int8_share
    assert chosen[1e3] < 0.5
    assert math.isclose(chosen[1e-3], 1)


@pytest.mark.parametrize("name", ["rpi5", "jetson-orin-nano", "rk3588"])
def test_a_board_that_was_probed_by_its_dump_is_a_target(cnn, images, name, tmp_path):
    path = tmp_path / "field-unit.toml"
    probed = edgekit.probe(dump=DUMPS / f"{name}.txt", output=path)
    deployed = edgekit.deploy(
        cnn, target=path, calibration=images, format="onnx", output=tmp_path / "dist"
    )
    assert deployed.report.target == "field-unit"
    assert deployed.onnx.is_file()
    assert probed.like == name
