"""Checks on a device that the bundle there is this one, and that it computes what was computed where it was made."""

from __future__ import annotations

import hashlib
import io
import json
import shlex
from pathlib import Path, PurePosixPath

import numpy as np

from edgekit.bundles.archive import unpacked
from edgekit.bundles.bundle import Bundle, read_bundle
from edgekit.bundles.golden import Golden
from edgekit.bundles.manifest import MANIFEST
from edgekit.bundles.minisign import read_public_key
from edgekit.bundles.verify import Answer, Verification, compare_bundle, read_answer, write_command
from edgekit.delivery.ssh import Ssh, SshAddress
from edgekit.targets.errors import PlanError, ToolError

# Emulated boards take a hundred times as long as real ones.
_RUN_S = 600.0
# A shell's exit status where a program is not there.
_NO_PROGRAM = 127


def verify_on(
    path: Path | str, on: str, *, threads: int = 1, key: Path | str | None = None
) -> Verification:
    """Verifies a bundle on a device that has it in one of its slots.

    Each file's SHA-256 there must be that of the bundle here, and layers and outputs are compared here. Nothing on the
    device changes. How far the device's own word can be trusted is another question: who rules it can answer anything.

    Args:
        path: The bundle: its folder or its one file.
        on: The device: ``ssh://[user@]host[:port][/absolute/root]``.
        threads: Threads that the program uses; the bytes may not depend on it.
        key: File with the public key, in minisign's format, that must have signed the bundle. By default a signature is
            not looked at.

    Raises:
        SignatureError: The bundle is not signed by that key.
        PlanError: The bundle is damaged here or there, or the device has another one.
        ToolError: The device can't be reached, or the program failed there.
        EdgekitError: `on` is no address.
    """
    signer = None if key is None else read_public_key(Path(key))
    address = SshAddress.parse(on)
    with unpacked(Path(path), key=signer) as folder, Ssh(address) as ssh:
        bundle = read_bundle(folder, key=signer)
        slot = _find_slot(ssh, bundle)
        _check_files(ssh, bundle, slot)

        def run(golden: Golden) -> Answer:
            return _run(ssh, bundle, golden, slot, threads)

        return compare_bundle(bundle, run, machine=str(address), emulated=False, key=signer)


def _find_slot(ssh: Ssh, bundle: Bundle) -> PurePosixPath:
    """Returns the folder on the device that holds the bundle."""
    root = PurePosixPath(ssh.address.root)
    done = ssh.run(shlex.join([str(root / "bin/edgekit-board"), str(root), "status"]), check=False)
    if done.status == _NO_PROGRAM:
        raise PlanError(f"{ssh.address}: nothing was ever flashed to {root} there: flash it first")
    if done.status != 0:
        raise ToolError(f"{ssh.address}: {done.stderr.strip()} (status {done.status})")
    try:
        slots = dict(json.loads(done.text)["slots"])
        held = {str(slot["manifest_sha256"]): str(name) for name, slot in slots.items()}
        releases = sorted(int(slot["release"]) for slot in slots.values())
    except (ValueError, KeyError, TypeError) as error:
        raise ToolError(
            f"{ssh.address}: its edgekit-board says what edgekit cannot read: {error}"
        ) from error
    name = held.get(hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest())
    if name is None:
        there = " and ".join(f"a release {number}" for number in releases) or "nothing"
        raise PlanError(
            f"{ssh.address}: it does not have this bundle (release {bundle.release}) but {there}: flash it first"
        )
    return root / "slots" / name


def _check_files(ssh: Ssh, bundle: Bundle, slot: PurePosixPath) -> None:
    """Compares each file on the device with the one here."""
    files = sorted(bundle.files)
    command = shlex.join(["sha256sum", "--", *files])
    done = ssh.run(f"cd {shlex.quote(str(slot))} && {command}", timeout_s=_RUN_S, check=False)
    rows = (line.split(None, 1) for line in done.text.splitlines())
    there = {row[1].lstrip("*"): row[0] for row in rows if len(row) == 2}
    for file in files:
        if there.get(file) != bundle.files[file]:
            raise PlanError(f"{ssh.address}: {slot / file}: missing or changed on the device")


def _run(ssh: Ssh, bundle: Bundle, golden: Golden, slot: PurePosixPath, threads: int) -> Answer:
    """Runs the bundle's program there on golden inputs."""
    outputs = ssh.run("mktemp -d").text.strip()
    try:
        command = write_command(bundle, golden, slot, PurePosixPath(outputs), threads)
        printed = ssh.run(shlex.join(command), timeout_s=_RUN_S).text
        digests, files = read_answer(printed, golden, f"{ssh.address}: {command[0]}")
        arrays = {}
        for name, file in files.items():
            content = ssh.run(f"cat {shlex.quote(f'{outputs}/{file}')}").stdout
            try:
                arrays[name] = np.load(io.BytesIO(content), allow_pickle=False)
            except (ValueError, EOFError) as error:
                raise ToolError(f"{ssh.address}: output {name} is no array: {error}") from error
        return digests, arrays
    finally:
        ssh.run(f"rm -rf {shlex.quote(outputs)}", check=False)
