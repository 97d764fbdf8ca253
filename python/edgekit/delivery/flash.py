"""Brings a bundle to a device: whole and proved there before it runs, or not at all.

The scripts of targets/flash carry the bytes and can be used by hand; edgekit-board, which they call on the device,
decides what it takes (docs/boards.md, "Slots on a device").
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit import targets
from edgekit.building.emulate import find_machine
from edgekit.bundles.archive import unpacked
from edgekit.bundles.bundle import Bundle, read_bundle
from edgekit.bundles.bundle_file import rewritten
from edgekit.bundles.manifest import SIGNATURE
from edgekit.bundles.minisign import read_public_key, read_signature
from edgekit.delivery.artefact import Artefact, is_artefact, write_artefact
from edgekit.delivery.own_key import find_own_public_key, sign_as_own
from edgekit.delivery.ssh import Ssh, SshAddress, choose_process_group
from edgekit.progress import Progress, ignore_progress
from edgekit.targets.errors import DeviceError, EdgekitError, SignatureError, ToolError
from edgekit.targets.toolchain import find_program

SCRIPTS = Path(targets.__file__).parent / "flash"

_WRONG_USAGE, _LINK_BROKE = 2, 3
_TRIES = 3
# How a device tells its kind, and the kind that qemu emulates.
_READ_MACHINE = "cat /proc/device-tree/compatible 2>/dev/null || true"
_QEMU_MACHINE = b"linux,dummy-virt"


@dataclass(frozen=True)
class Health:
    """What a bundle did with its golden inputs on a device before it was switched to.

    Attributes:
        layers: Layers whose outputs were equal to the byte, which is all.
        median_us: Time of a run in microseconds; None on an emulated device, whose time is no board's.
        peak_bytes: The most memory that the program held.
    """

    layers: int
    median_us: int | None
    peak_bytes: int

    def __str__(self) -> str:
        time = "emulated" if self.median_us is None else f"{self.median_us / 1000:.3f} ms"
        return f"{self.layers} layers equal, {time}, {self.peak_bytes / 1e6:.1f} MB"


@dataclass(frozen=True)
class FlashResult:
    """What came of bringing a bundle to a device.

    Attributes:
        address: The device.
        release: The bundle's.
        slot: Where it lies, "a" or "b".
        state: "confirmed", "trial" (it waits for who starts it to confirm it), "present": it ran there already, or
            "written": to a file or a card, for a device that will check it.
        sent_bytes: Of the bundle's files, over the link; or of what was written.
        reused_bytes: Of the bundle's files, that were on the device already.
        health: Of the check before the switch; None where it was present.
        steps: What was done, as the scripts print it.
    """

    address: str
    release: int
    slot: str
    state: str
    sent_bytes: int
    reused_bytes: int
    health: Health | None
    steps: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns what JSON holds."""
        health = self.health
        return {
            "address": self.address,
            "release": self.release,
            "slot": self.slot,
            "state": self.state,
            "sent_bytes": self.sent_bytes,
            "reused_bytes": self.reused_bytes,
            "health": None if health is None else vars(health),
            "steps": list(self.steps),
        }

    def __str__(self) -> str:
        if self.state == "written":
            return f"{self.address}: release {self.release} written, {self.sent_bytes} bytes"
        if self.state == "present":
            return f"{self.address} runs release {self.release} already, in slot {self.slot}"
        state = "confirmed" if self.state == "confirmed" else "on trial until it is confirmed"
        return (
            f"{self.address}: release {self.release} in slot {self.slot}, {state}: {self.health}; "
            f"{self.sent_bytes} bytes sent, {self.reused_bytes} were there"
        )


def flash(
    bundle: str | Path,
    to: str,
    *,
    key: str | Path | None = None,
    own_key: bool = False,
    confirm: bool = True,
    service: bool = False,
    listen: str | None = None,
    sudo: bool = False,
    tries: int = _TRIES,
    ssh_options: Sequence[str] = (),
    options: Sequence[str] = (),
    old: str | Path | None = None,
    progress: Progress | None = None,
) -> FlashResult:
    """Brings a bundle to a device, has it checked there, and switches to it.

    What came over a link that broke stays on the device, and the next call sends the rest. A device that refuses keeps
    what it runs.

    Args:
        bundle: The bundle's folder or file, signed.
        to: ``ssh://[user@]host[:port][/absolute/root]``, or ``dir:///root``: a folder here, where programs of other
            CPUs run in an emulator; or what carries it to a device later: ``image://FILE``, ``card:///dev/sdX``,
            ``deb://FILE``, ``rauc://FILE``.
        key: The public key that must have signed the bundle, checked here as well; a device that has no root folder yet
            gets one that trusts it. By default the one of `own_key`, where that has signed.
        own_key: Whether to sign the bundle, where nobody has, with a key of this user's own, which is made for it when
            it is first needed.
        confirm: Whether it stays at once; else it is on trial, and whatever starts it there confirms it: three starts
            without that, and the device goes back.
        service: Whether to make the device run its model as a service of systemd, which confirms bundles itself; takes
            root there. A device that has one already restarts it with each bundle.
        listen: Where that serves: ``unix:/run/edgekit/socket`` by default, ``tcp:*:7070`` for other devices.
        sudo: Whether to work as root on the device, by a sudo that asks for no password.
        tries: How often to go on after a broken link.
        ssh_options: Further words for ssh, behind those of EDGEKIT_SSH_OPTIONS.
        options: Of images, cards and packages, as ``NAME=VALUE`` (docs/images.md).
        old: The bundle that the device may have now, as a folder or one file. Of large files only what differs from the
            device's travels anyhow; with the old bundle here weights that changed a little do as small differences.
        progress: Called with "sending", bytes that are there, and bytes of all that is missing.

    Raises:
        SignatureError: The bundle is not signed, or not by ``key``; the message says what to do.
        PlanError: The bundle is damaged.
        ToolError: The device cannot be reached, the link broke too often, or this machine lacks a program.
        DeviceError: The device refused; the message holds its reason.
        EdgekitError: The address has another form.
    """
    given = Path(bundle)
    if own_key:
        with rewritten(given) as folder:
            sign_as_own(folder)
    with unpacked(given) as folder:
        public = _find_key(given, folder / SIGNATURE, None if key is None else Path(key))
        checked = read_bundle(folder, key=None if public is None else read_public_key(public))
        if is_artefact(to):
            written = write_artefact(checked, to, public, options, listen=listen)
            return _describe(written, checked.release)
        if options:
            raise EdgekitError(f"{to} takes no options: {', '.join(options)}")
        words = ["--tries", str(tries)]
        words += [] if public is None else ["--key", str(public)]
        words += [] if confirm else ["--no-start"]
        words += ["--service"] if service else []
        words += [] if listen is None else ["--listen", listen]
        words += ["--sudo"] if sudo else []
        with unpacked(folder if old is None else Path(old)) as before:
            maker = [sys.executable, "-m", "edgekit.delivery.recipe"]
            maker += [] if old is None else ["--old", str(before.resolve())]
            words += ["--recipe-maker", shlex.join(maker)]
            return _carry(checked, to, words, ssh_options, progress or ignore_progress)


def _carry(
    bundle: Bundle, to: str, words: list[str], ssh_options: Sequence[str], progress: Progress
) -> FlashResult:
    """Runs the script for an address."""
    account = _Account(to, bundle.release, progress)
    scheme = to.partition("://")[0]
    words = [*words, str(bundle.path), to]
    if scheme == "ssh":
        with Ssh(SshAddress.parse(to), ssh_options) as link:
            own = os.environ.get("EDGEKIT_SSH_OPTIONS", "")
            options = f"{shlex.join(link.shared)} {own} {shlex.join(ssh_options)}"
            environment = {"EDGEKIT_SSH_OPTIONS": options}
            account.emulated = _QEMU_MACHINE in link.run(_READ_MACHINE).stdout
            _run("ssh.sh", words, environment, account)
    elif scheme == "dir":
        environment = _find_emulator(bundle)
        account.emulated = bool((environment or os.environ)["EDGEKIT_EMULATOR"])
        _run("dir.sh", words, environment, account)
    else:
        raise EdgekitError(
            f"{to}: where to? ssh://[user@]host[:port][/absolute/root], dir:///absolute/root, image://card.img, "
            "card:///dev/sdX, deb://model.deb or rauc://model.raucb"
        )
    return account.close()


def _describe(artefact: Artefact, release: int) -> FlashResult:
    """Returns the result of writing a file or a card."""
    return FlashResult(
        artefact.address, release, "", "written", artefact.size, 0, None, artefact.steps
    )


def _find_key(bundle: Path, signature: Path, key: Path | None) -> Path | None:
    """Returns the public key that is to have signed: the one given, or the user's own where that has."""
    if not signature.exists() and signature.parent.is_dir():
        raise SignatureError(
            f"{bundle} is not signed, and a device takes only what is signed. For devices of your own: add --own-key, "
            f"and edgekit signs with a key that it makes for you. For a team: `edgekit keygen team`, `edgekit sign "
            f"{bundle} --key team.key`, and --key team.pub the first time that a device is flashed"
        )
    own = find_own_public_key()
    if key is not None or own is None or not signature.exists():
        return key
    return own if read_public_key(own).key_id == read_signature(signature).key_id else None


def _find_emulator(bundle: Bundle) -> dict[str, str]:
    """Returns the environment that lets a bundle's programs run here."""
    if "EDGEKIT_EMULATOR" in os.environ:
        return {}
    return {"EDGEKIT_EMULATOR": " ".join(find_machine(bundle.target).prefix)}


@dataclass
class _Account:
    """Keeps account of what a script prints."""

    address: str
    release: int
    progress: Progress
    steps: list[str] = field(default_factory=list)
    slot: str = ""
    state: str = ""
    health: Health | None = None
    emulated: bool = False
    sent: int = 0
    total: int | None = None
    reused: int = 0
    # Of recipes, which travelled in place of files.
    by_recipe: int = 0
    # Of those since the last begin.
    arrived: int = 0
    missing: int = 0

    def take(self, line: str) -> None:
        """Takes a line."""
        word, _, rest = line.partition(" ")
        if word == "at":
            self._arrive(int(rest))
            return
        self.steps.append(line)
        if word == "begin":
            whole, self.missing = map(int, rest.split())
            self.arrived = 0
            if self.total is None:
                self.total = self.missing
                self.reused = whole - self.missing - self.by_recipe
            # What arrived before a link broke, whether that was told or not.
            self.sent = self.total - self.missing
            self.progress("sending", self.sent, self.total)
        elif word == "patch":
            taken, size = map(int, rest.split()[:2])
            self.by_recipe += taken
            if self.total is not None:
                self.total -= size
                self.reused += size - taken
        elif word == "health":
            facts = json.loads(rest)
            time = None if self.emulated else facts["median_us"]
            self.health = Health(facts["layers_equal"], time, facts["peak_resident_bytes"])
            self._arrive(self.missing)
        elif word in ("trial", "confirmed"):
            self.state, self.slot = word, rest
        elif word == "present":
            kind, self.slot = rest.split()
            self.state = "trial" if kind == "trial" else "present"

    def close(self) -> FlashResult:
        """Returns the result of a script that ended well."""
        return FlashResult(
            self.address,
            self.release,
            self.slot,
            self.state,
            self.sent + self.by_recipe,
            self.reused,
            self.health,
            tuple(self.steps),
        )

    def _arrive(self, bytes_since_begin: int) -> None:
        self.sent += bytes_since_begin - self.arrived
        self.arrived = bytes_since_begin
        self.progress("sending", self.sent, self.total)


def _run(script: str, words: Sequence[str], environment: dict[str, str], account: _Account) -> None:
    """Runs a script and takes account of its lines."""
    shell = find_program("sh")
    if shell is None:
        raise ToolError("flashing needs a POSIX shell, and this machine has no sh")
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [str(shell), str(SCRIPTS / script), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **environment},
            encoding="utf-8",
            errors="replace",
            process_group=choose_process_group(),
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                account.take(line.rstrip("\n"))
        except BaseException:
            process.terminate()
            raise
        finally:
            process.stdout.close()
            process.wait()
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace").strip().splitlines()
    if process.returncode == 0:
        return
    if process.returncode == _WRONG_USAGE:
        raise EdgekitError("\n".join(said).removeprefix(f"{script}: "))
    reason = said[-1].removeprefix(f"{script}: ") if said else "no word of why"
    kind = ToolError if process.returncode == _LINK_BROKE else DeviceError
    raise kind(f"{account.address}: {reason}")
