"""A bundle on a device: where it lies installed, or in a folder made for a measurement."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from edgekit.bundles.bundle import Bundle
from edgekit.bundles.manifest import MANIFEST
from edgekit.delivery.shell import LocalShell, Shell
from edgekit.delivery.ssh import DEFAULT_ROOT, SCHEME, Ssh, SshAddress
from edgekit.targets.errors import EdgekitError, ToolError

FOLDER_SCHEME = "dir://"
# Where programs may be: some devices let none run from /tmp.
_MAKE_FOLDER = """for base in /tmp /var/tmp "$HOME"; do
    made=$(mktemp -d "$base/edgekit-bench.XXXXXX" 2>/dev/null) || continue
    printf '#!/bin/sh\\n' >"$made/try" && chmod +x "$made/try"
    if "$made/try" 2>/dev/null; then
        rm "$made/try"
        echo "$made"
        exit 0
    fi
    rm -rf "$made"
done
exit 1"""
_TEMPORARY = re.compile(r"/[^\n]*/edgekit-bench\.[A-Za-z0-9]+")


@dataclass(frozen=True)
class Place:
    """Where a device is reached.

    Attributes:
        shell: Runs commands there.
        root: Of its slots.
        is_local: Whether it is this machine.
    """

    shell: Shell
    root: str
    is_local: bool


def find_place(address: str) -> Place:
    """Returns the device of an address; nothing is connected yet.

    Raises:
        EdgekitError: It is none.
    """
    if address.startswith(SCHEME):
        device = SshAddress.parse(address)
        return Place(Ssh(device), device.root, False)
    if address.startswith(FOLDER_SCHEME):
        root = address[len(FOLDER_SCHEME) :]
        if not root.startswith("/"):
            raise EdgekitError(f"{address}: dir:// takes an absolute path, as dir:///srv/edgekit")
        return Place(LocalShell(), root, True)
    if address == "local":
        return Place(LocalShell(), DEFAULT_ROOT, True)
    raise EdgekitError(
        f"{address}: a device is ssh://[user@]host[:port][/root], dir:///ROOT or local"
    )


@dataclass(frozen=True)
class Files:
    """Files of a bundle on a device.

    Attributes:
        runner, plan: The program and the network.
        inputs: Golden inputs of the first size, by name.
        folder: Takes what the program prints; removed afterwards.
        installed: The slot in which they lie, "" where they were sent.
    """

    runner: str
    plan: str
    inputs: dict[str, str]
    folder: str
    installed: str


@contextlib.contextmanager
def bring(bundle: Bundle, place: Place, *, timeout_s: float = 600.0) -> Iterator[Files]:
    """Sends what of a bundle runs to a folder on the device, unless it is the one that runs there anyway.

    The folder is removed when the context ends.

    Raises:
        ToolError: The device has no room, or nowhere to put it.
    """
    shell = place.shell
    made = make_folder(shell)
    try:
        slot = _find_installed(bundle, place)
        names = {"runner": bundle.runner, "plan": bundle.plan}
        inputs = dict(bundle.sizes[0].inputs)
        if slot:
            there = {
                path: f"{slot}/{path.relative_to(bundle.path).as_posix()}"
                for path in [*names.values(), *inputs.values()]
            }
        else:
            there = _send([*names.values(), *inputs.values()], shell, made, timeout_s)
            shell.run(f"chmod +x {shlex.quote(there[bundle.runner])}")
        yield Files(
            runner=there[bundle.runner],
            plan=there[bundle.plan],
            inputs={name: there[path] for name, path in inputs.items()},
            folder=made,
            installed=slot,
        )
    finally:
        # What broke the link is the error to tell, not that the folder could not be removed over it.
        with contextlib.suppress(ToolError):
            shell.run(f"rm -rf {shlex.quote(made)}")


def make_folder(shell: Shell) -> str:
    """Returns a new folder on the device from which programs run.

    Raises:
        ToolError: It has none.
    """
    done = shell.run(_MAKE_FOLDER, check=False)
    made = done.text.strip()
    if done.status != 0 or not _TEMPORARY.fullmatch(made):
        raise ToolError(
            "the device has no folder to run a program from, be it in /tmp, /var/tmp or the home folder: each is full, "
            "cannot be written, or lets no programs run"
        )
    return made


def _send(paths: Sequence[Path], shell: Shell, folder: str, timeout_s: float) -> dict[Path, str]:
    """Sends files; returns where each lies."""
    there = {}
    for number, path in enumerate(paths):
        there[path] = f"{folder}/{number}-{path.name}"
        shell.run(f"cat > {shlex.quote(there[path])}", stdin=path, timeout_s=timeout_s)
    return there


def _find_installed(bundle: Bundle, place: Place) -> str:
    """Returns the folder of the slot that runs this very bundle, "" where none does."""
    root = shlex.quote(place.root)
    told = place.shell.run(f"{root}/bin/edgekit-board {root} status", check=False)
    if told.status != 0:
        return ""
    try:
        facts = json.loads(told.text)
        active = facts["active"]
        digest = facts["slots"][active]["manifest_sha256"]
    except (ValueError, KeyError, TypeError):
        return ""
    own = sha256((bundle.path / MANIFEST).read_bytes()).hexdigest()
    return f"{place.root}/slots/{active}" if digest == own else ""
