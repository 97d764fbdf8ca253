import dataclasses
import platform
import sys
from pathlib import Path

import pytest

import edgekit.building.emulate
from edgekit import ToolError, _native
from edgekit.building.emulate import Machine, find_machine, runs_natively
from edgekit.bundles.manifest import BundleTarget
from edgekit.targets.profile import load_profile

HERE = Machine("native", emulated=False)


def target(name: str) -> BundleTarget:
    profile = load_profile(name)
    return BundleTarget.from_profile(profile, profile.isa)


def test_generic_runs_everywhere() -> None:
    assert runs_natively("generic")
    assert not runs_natively("no_such_isa")


def test_this_machine_is_preferred() -> None:
    own = dataclasses.replace(
        target("rpi4"), triple=f"{platform.machine()}-linux-gnu", isa=_native.best_isa()
    )
    machine = find_machine(own)
    assert (machine.label, machine.emulated) == (f"native {platform.machine()}", False)
    assert machine.prefix == ()


@pytest.mark.parametrize(("board", "cpu"), [("rpi3", "a53"), ("rpi4", "a72"), ("rpi5", "a76")])
def test_boards_are_emulated_with_their_cpu(
    board: str, cpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(
        edgekit.building.emulate, "find_program", lambda *names: Path("/bin") / names[0]
    )
    machine = find_machine(target(board))
    assert (machine.label, machine.emulated) == (f"emulated cortex-{cpu}", True)
    assert machine.prefix == ("/bin/qemu-aarch64-static", "-cpu", f"cortex-{cpu}")


def test_missing_emulator_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(edgekit.building.emulate, "find_program", lambda *names: None)
    with pytest.raises(ToolError, match=r"qemu-aarch64: install qemu-user-static \(Debian"):
        find_machine(target("rpi5"))


def test_a_cpu_that_nothing_emulates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edgekit.building.emulate, "runs_natively", lambda isa: False)
    with pytest.raises(ToolError, match="lacks x86_avx512vnni and no emulator has it"):
        find_machine(target("x86-64-v4"))


def test_the_programs_words_are_in_the_error() -> None:
    with pytest.raises(ToolError, match=r"failed with status 3 \(native\): no such plan"):
        HERE.run([sys.executable, "-c", "import sys; print('no such plan'); sys.exit(3)"])


def test_a_program_that_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(b"no program")
    with pytest.raises(ToolError, match=r"program could not be started \(native\)"):
        HERE.run([str(tmp_path / "program")])


def test_a_program_that_hangs() -> None:
    with pytest.raises(ToolError, match=r"took longer than 0\.1 s"):
        HERE.run([sys.executable, "-c", "import time; time.sleep(60)"], timeout_s=0.1)


def test_a_forced_instruction_set_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_ISA", "generic")
    code = "import os; print(os.environ.get('EDGEKIT_ISA'))"
    assert HERE.run([sys.executable, "-c", code]).strip() == "None"
