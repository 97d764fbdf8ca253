"""Runs a board's program on this machine: as it is where the CPU can, else in qemu with the board's CPU."""

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edgekit import _native
from edgekit.bundles.manifest import BundleTarget
from edgekit.targets.errors import ToolError
from edgekit.targets.toolchain import find_program


@dataclass(frozen=True)
class Machine:
    """Where a board's program runs.

    Attributes:
        label: "native x86_64", or "emulated cortex-a72": to be shown beside every result. No time taken on an emulated
            machine is a board's.
        emulated: Whether an emulator stands between.
        prefix: Words before the program's own.
    """

    label: str
    emulated: bool
    prefix: tuple[str, ...] = ()

    def run(self, command: list[str], *, timeout_s: float = 600.0) -> str:
        """Runs a program and returns what it printed.

        Raises:
            ToolError: It could not be started, took longer than `timeout_s`, or failed; the message has its words.
        """
        words = [*self.prefix, *command]
        # A forced instruction set would change what the plan asks for.
        environment = {key: value for key, value in os.environ.items() if key != "EDGEKIT_ISA"}
        try:
            done = subprocess.run(
                words,
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout_s,
                env=environment,
            )
        except OSError as error:
            raise ToolError(f"{command[0]} could not be started ({self.label}): {error}") from error
        except subprocess.TimeoutExpired as error:
            raise ToolError(
                f"{command[0]} took longer than {timeout_s:g} s ({self.label})"
            ) from error
        if done.returncode != 0:
            message = done.stderr.strip() or done.stdout.strip() or "no message"
            raise ToolError(
                f"{Path(command[0]).name} failed with status {done.returncode} ({self.label}): {message}"
            )
        return done.stdout


def find_machine(target: BundleTarget) -> Machine:
    """Finds where a program for `target` can run: this machine if its CPU can, else an emulator.

    Raises:
        ToolError: The emulator is missing (the message says how to get it), or has no such CPU.
    """
    architecture = target.architecture
    if architecture == platform.machine() and runs_natively(target.isa):
        return Machine(f"native {architecture}", emulated=False)
    if target.emulator_cpu is None:
        raise ToolError(
            f"this machine's CPU lacks {target.isa} and no emulator has it: check the bundle on a {target.title}"
        )
    emulator = find_program(f"qemu-{architecture}-static", f"qemu-{architecture}")
    if emulator is None:
        raise ToolError(
            f"checking a bundle for {target.title} here needs the emulator qemu-{architecture}: "
            "install qemu-user-static (Debian, Ubuntu) or qemu-user (elsewhere), or check it on the board"
        )
    return Machine(
        f"emulated {target.emulator_cpu}",
        emulated=True,
        prefix=(str(emulator), "-cpu", target.emulator_cpu),
    )


def runs_natively(isa: str) -> bool:
    """Returns whether this CPU can execute the instruction set."""
    return any(info.name == isa and info.supported for info in _native.isas())
