"""A device that ssh reaches, and this machine, become profiles that `deploy` takes."""

import json
import os
from pathlib import Path

import pytest
from local_sshd import LocalSshd
from typer.testing import CliRunner

import edgekit
from edgekit import EdgekitError, TargetError, ToolError
from edgekit.cli import app
from edgekit.targets.probe.dump import read_dump
from edgekit.targets.profile import load_profile, read_profile

DUMPS = Path(__file__).parents[1] / "targets/dumps"


def test_a_device_is_read_over_ssh(device: LocalSshd, tmp_path: Path) -> None:
    path, told = tmp_path / "bench-pc.toml", tmp_path / "told.txt"
    probed = edgekit.probe(device.url(), output=path, save_dump=told)
    assert load_profile(path) == probed.profile
    assert probed.profile.name == "bench-pc"
    assert probed.profile.flash.user == device.user
    assert probed.profile.system.architecture == os.uname().machine
    assert path.read_text().startswith("# Probed by edgekit from ssh://")
    # What it told, read again, says the same of the processor.
    assert edgekit.probe(dump=told).profile.cpu == probed.profile.cpu
    assert read_dump(told).commands["uname -m"] == os.uname().machine


def test_this_machine_is_read(tmp_path: Path) -> None:
    here = edgekit.probe("local").profile
    from edgekit import _native

    runs = {info.name for info in _native.isas() if info.supported}
    assert here.isa in runs


def test_files_are_kept_unless_they_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("precious")
    with pytest.raises(EdgekitError, match="kept"):
        edgekit.probe(dump=DUMPS / "rpi4.txt", output=path)
    assert path.read_text() == "precious"
    edgekit.probe(dump=DUMPS / "rpi4.txt", output=path, overwrite=True)
    assert read_profile(path).title == "Raspberry Pi 4 Model B Rev 1.4"


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({}, EdgekitError, "not both"),
        ({"address": "local", "dump": "x"}, EdgekitError, "not both"),
        ({"address": "pi@host"}, EdgekitError, "ssh://"),
        ({"address": "dir:///x"}, EdgekitError, "ssh://"),
        ({"address": "local", "output": "x.json"}, TargetError, ".toml"),
        ({"address": "local", "output": "rpi4.toml"}, TargetError, "shipped"),
        ({"address": "ssh://127.0.0.1:1"}, ToolError, "nothing listens"),
    ],
)
def test_what_cannot_be_probed_is_said_in_words(arguments, kind, words) -> None:
    with pytest.raises(kind, match=words):
        edgekit.probe(**arguments)


def call(*words: str) -> str:
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_says_what_it_found_and_what_not(tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    said = call("targets", "probe", "--dump", str(DUMPS / "rk3588.txt"), "-o", str(path))
    assert "threads run on cores 4, 5, 6, 7" in said
    assert "names the board rk3588" in said
    assert "not known: memory.bandwidth_gb_s" in said
    assert read_profile(path).title == "Radxa ROCK 5B"
    facts = json.loads(call("targets", "probe", "--dump", str(DUMPS / "rpi5.txt"), "--json"))
    assert facts["like"] == "rpi5"
    assert facts["profile"]["cpu"]["clock_mhz"] == 2400


def test_boards_are_listed_explained_and_shown(tmp_path: Path) -> None:
    assert {item["name"] for item in json.loads(call("targets", "--json"))} >= {"rpi4", "rk3588"}
    said = call("targets", "show", "rpi4")
    assert "decides which layers are int8" in said
    assert "source: Raspberry Pi documentation" in said
    says = json.loads(call("targets", "show", "rpi4", "--json"))["says"]
    assert any(item["key"] == "cpu.clock_mhz" and item["source"] for item in says)
    # As it always was.
    assert "clock_mhz: 1500" in call("targets", "rpi4")
    assert json.loads(call("targets", "rpi4", "--json"))["cpu"]["clock_mhz"] == 1500
