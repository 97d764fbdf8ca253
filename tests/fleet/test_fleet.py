"""A fleet of twenty emulated devices behind real ssh: staged, with devices that fail, to the byte."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from emulated_fleet import EmulatedDevice, read_tree, run_fleet
from fleet_bundles import BOARD, make_real_bundle, make_wrong_bundle
from typer.testing import CliRunner

from edgekit import EdgekitError
from edgekit.cli import app
from edgekit.delivery.flash import flash
from edgekit.delivery.fleet.signed_bundle import digest_manifest

# A machine's own board beside that of all the others, so that two bundles travel.
OTHER_BOARD = "host"
FULL, CUT, WRONG = "d03", "d07", "d12"
SPARE = 200_000


def invoke(*words: object) -> tuple[int, str, str]:
    """Runs the command line; returns exit code, output and errors."""
    done = CliRunner().invoke(app, ["fleet", *map(str, words)])
    if isinstance(done.exception, (EdgekitError, OSError)):
        return 1, done.stdout, str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def write_inventory(path: Path, devices: list[EmulatedDevice], boards: dict[str, str]) -> Path:
    text = "".join(
        f'[devices.{device.name}]\naddress = "{device.address}"\nboard = "{boards.get(device.name, BOARD)}"\n'
        for device in devices
    )
    path.write_text(text)
    return path


def rows(inventory: Path) -> dict[str, dict[str, object]]:
    """Returns what `edgekit fleet status` tells, by device."""
    code, out, err = invoke("status", inventory, "--json")
    assert code == 0, err
    return {row["device"]: row for row in json.loads(out)}


@pytest.fixture(scope="session")
def releases(bundles, tmp_path_factory):
    """Releases for both boards: 1, 2 and 3, of which 2 is wrong for the other board and 3 for all."""
    folder = tmp_path_factory.mktemp("releases")
    other = make_real_bundle(folder / "other1", board=OTHER_BOARD, release=1)
    wrong_two = make_wrong_bundle(other, folder / "other2", 2)
    wrong_three = make_wrong_bundle(bundles[2], folder / "wrong3", 3)
    return {1: [bundles[1], other], 2: [bundles[2], wrong_two], 3: [wrong_three, wrong_two]}


def install_first(devices: list[EmulatedDevice], bundle: Path, key: Path) -> None:
    """Gives devices the same bundle: the first one by a flash, the others as copies of its root folder."""
    flash(bundle, f"dir://{devices[0].root}", key=key)
    for device in devices[1:]:
        shutil.copytree(devices[0].root, device.root, symlinks=True, dirs_exist_ok=True)


@pytest.mark.slow
def test_twenty_devices_of_which_three_fail(releases, public_key, tmp_path):
    began = time.monotonic()
    first, second, third = (releases[number] for number in (1, 2, 3))
    digests = {number: digest_manifest(releases[number][0]) for number in releases}
    with run_fleet(tmp_path, 20, {FULL: 12_000_000}) as devices:
        by_name = {device.name: device for device in devices}
        inventory = write_inventory(tmp_path / "fleet.toml", devices, {WRONG: OTHER_BOARD})
        install_first(devices, first[0], public_key)
        shutil.rmtree(by_name[WRONG].root)
        install_first([by_name[WRONG]], first[1], public_key)
        by_name[FULL].leave_room(SPARE)
        by_name[CUT].cut_links(1000)
        before = {device.name: device.files("a") for device in devices}
        assert before["d00"] == read_tree(first[0])

        # The rule allows one failure of twenty: the other board's device in the stage of two. The second one, in the
        # stage of ten, stops the rollout.
        words = ["update", inventory, *second, "--canary", 1, "--stages", "10%,50%,100%"]
        code, out, err = invoke(*words, "--max-failures", "5%", "--parallel", 4)
        assert code == 4, err
        assert "2 of 20 devices failed, and no more than 5% may" in out
        updated = {device.name for device in devices if device.board.status["active"] == "b"}
        early = {WRONG, *(f"d{number:02}" for number in range(9))}
        assert "d00" in updated < early - {FULL, CUT, WRONG} | {"d09"}
        for name in by_name.keys() - early:
            assert by_name[name].board.status["slots"].keys() == {"a"}
            assert by_name[name].files("a") == before[name]

        # Again, with room for three: it goes on, tries those two again, and repeats nothing.
        begun = {name: by_name[name].board.log.count("begins to take") for name in updated}
        code, out, err = invoke(*words, "--max-failures", "15%", "--parallel", 4)
        assert code == 3, err
        assert "done: 17 updated, 3 failed" in out
        said = "bytes, and .* has room for" if by_name[FULL].has_own_disk else ""
        assert re.search(f"{FULL}: .*{said}", out)
        assert re.search(f"{CUT}: .* the link broke", out)
        assert re.search(f"{WRONG}: .* output y has other bytes than the golden one", out)
        assert {name: by_name[name].board.log.count("begins to take") for name in updated} == begun

        # Who runs what, asked anew, and to the byte.
        found = rows(inventory)
        for device in devices:
            failed = device.name in (FULL, CUT, WRONG)
            wanted = digest_manifest(first[device.name == WRONG]) if failed else digests[2]
            assert found[device.name]["digest"] == wanted
            assert found[device.name]["state"] == "confirmed"
            status = device.board.status
            assert (status["active"], status["trial"]) == ("a" if failed else "b", "-")
            assert device.files("a") == before[device.name]
            if not failed:
                assert device.files("b") == read_tree(second[0])
            slot = "a" if failed else "b"
            device.board.do("check", slot)

        # A release that computes wrongly everywhere ends at the canaries, and nothing else is touched.
        code, out, err = invoke(*["update", inventory, *third, "--canary", 2, "--anew"])
        assert code == 4, err
        assert re.search(f"canary (d00|{WRONG}) failed", out)
        active = {device.name: device.board.status["active"] for device in devices}
        assert {name for name, slot in active.items() if slot == "a"} == {FULL, CUT, WRONG}

        # And the fleet goes back: those that run release 2, and no others. The canary's former bundle made room for the
        # one that was refused, to which there is no way back.
        code, out, err = invoke("back", inventory, second[0], "--json")
        assert code == 3, err
        told = json.loads(out)
        assert "there is nothing to go back to: output y has other bytes" in told["d00"]
        assert {name for name, words in told.items() if words == "taken back"} == {
            device.name for device in devices
        } - {FULL, CUT, WRONG, "d00"}
        assert {row["device"] for row in rows(inventory).values() if row["release"] != 1} == {"d00"}
    print(f"twenty devices: {time.monotonic() - began:.1f} s")


@pytest.fixture
def small_fleet(bundles, public_key, tmp_path):
    """Four devices with release 1."""
    with run_fleet(tmp_path, 4) as devices:
        install_first(devices, bundles[1], public_key)
        yield write_inventory(tmp_path / "fleet.toml", devices, {}), devices


@pytest.mark.slow
def test_bare_devices_join_and_the_table_says_so(bundles, public_key, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    with run_fleet(tmp_path, 2) as devices:
        inventory = write_inventory(tmp_path / "fleet.toml", devices, {})
        assert {row["state"] for row in rows(inventory).values()} == {"without edgekit"}
        code, out, err = invoke("update", inventory, bundles[1], "--key", public_key)
        assert (code, out) == (0, "done: 2 updated\n"), err
        os.kill(devices[1].server.pid, signal.SIGTERM)
        code, out, _ = invoke("status", inventory)
        head, one, two, *_ = out.splitlines()
        assert head.split() == ["device", "board", "slot", "release", "bundle", "seen", "state"]
        digest = digest_manifest(bundles[1])[:12]
        assert one.split()[:5] == ["d00", BOARD, "a", "1", digest]
        assert one.split()[6:] == ["confirmed"]
        assert two.split()[:5] == ["d01", BOARD, "-", "-", "-"]
        # It was seen when it was asked first.
        assert two.split()[5].endswith("Z")
        assert "unreachable: nothing listens there" in two


@pytest.mark.slow
def test_a_service_confirms_what_it_serves(small_fleet, bundles):
    inventory, devices = small_fleet
    # What a service does: it runs the slot, and confirms once that works. On one device it never gets so far.
    board = '"$ROOT/bin/edgekit-board" "$ROOT"'
    service = f'slot=$({board} start) && [ ! -e "$ROOT/ill" ] && {board} confirm || true'
    (devices[3].root / "ill").touch()
    code, out, err = invoke(
        "update",
        inventory,
        bundles[2],
        "--max-failures",
        1,
        "--restart-service",
        service,
        "--confirm-within",
        1,
        "--check",
        'test -e "$ROOT/state"',
    )
    assert code == 3, err
    assert re.search("d03: .* not confirmed within 1 s", out)
    assert [device.board.status["active"] for device in devices] == ["b", "b", "b", "a"]
    assert [device.board.status["trial"] for device in devices] == ["-"] * 4


@pytest.mark.slow
def test_a_device_that_falls_ill_while_others_wait_is_taken_back(small_fleet, bundles):
    inventory, devices = small_fleet
    # The first look finds it well, the one after the stage does not.
    check = '! [ -e "$ROOT/ill" ] || mkdir "$ROOT/seen-well"'
    (devices[2].root / "ill").touch()
    code, out, err = invoke(
        "update", inventory, bundles[2], "--max-failures", "25%", "--wait", 0.1, "--check", check
    )
    assert code == 3, err
    assert re.search("d02: not well any more: .*; taken back", out)
    assert [device.board.status["active"] for device in devices] == ["b", "b", "a", "b"]


@pytest.mark.slow
def test_ctrl_c_at_a_terminal_finishes_what_is_begun(small_fleet, bundles, tmp_path):
    inventory, devices = small_fleet
    words = [sys.executable, "-m", "edgekit", "fleet", "update", str(inventory), str(bundles[2])]
    words += ["--canary", "0", "--parallel", "2", "--check", "sleep 1"]
    errors = (tmp_path / "errors").open("w+")
    # Its process group gets the signal, as from a terminal.
    with subprocess.Popen(words, stderr=errors, start_new_session=True) as process:
        while "stage 1 of 1" not in (tmp_path / "errors").read_text():
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 130, (tmp_path / "errors").read_text()
    errors.close()
    assert "stopping: devices that are begun are finished" in (tmp_path / "errors").read_text()
    active = [device.board.status["active"] for device in devices]
    assert active == ["b", "b", "a", "a"], (tmp_path / "errors").read_text()
    code, out, err = invoke("update", inventory, bundles[2])
    assert (code, out) == (0, "done: 4 updated\n"), err


@pytest.mark.slow
def test_mistakes_are_told_before_anything_is_done(bundles, public_key, releases, tmp_path):
    inventory = tmp_path / "fleet.toml"
    inventory.write_text('[devices.a]\naddress = "ssh://127.0.0.1:1"\nboard = "rpi5"\n')
    unsigned = shutil.copytree(bundles[1], tmp_path / "unsigned")
    (unsigned / "manifest.json.minisig").unlink()
    both = tmp_path / "both"
    both.mkdir()
    shutil.copytree(bundles[1], both / "one")
    for words, message in [
        ([bundles[1]], "no bundle for rpi5"),
        ([bundles[1], bundles[2]], f"are both for {BOARD}"),
        ([both, bundles[2]], f"are both for {BOARD}"),
        ([tmp_path / "nothing"], "no such bundle"),
        ([both / "one/golden"], "no bundle, and no folder of bundles"),
        ([unsigned], "not signed, and devices take only"),
        ([bundles[1], "--stages", "x"], "'x' is neither a number"),
        ([bundles[1], "--max-failures", "200%"], "no more than 100%"),
        ([bundles[1], "--group", "x"], "no group 'x'"),
    ]:
        code, _, err = invoke("update", inventory, *words)
        assert (code, message in err) == (1, True), err
    code, _, err = invoke("back", inventory)
    assert (code, "no journal of a rollout" in err) == (1, True)
    assert not Path(f"{inventory}.rollout.json").exists()


@pytest.mark.slow
def test_the_inventory_may_not_contradict_a_device(small_fleet, bundles, releases):
    inventory, devices = small_fleet
    write_inventory(inventory, devices, {"d00": OTHER_BOARD})
    code, out, _ = invoke("update", inventory, bundles[2], releases[1][1], "--device", "d00")
    assert code == 4
    assert f"the bundle is for {OTHER_BOARD}, and this is {BOARD}" in out
    assert {device.board.status["active"] for device in devices} == {"a"}
