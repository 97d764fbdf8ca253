"""Reads a device, this machine or one that ssh reaches, and makes its profile."""

from __future__ import annotations

from pathlib import Path

from edgekit.delivery.shell import LocalShell
from edgekit.delivery.ssh import SCHEME, Ssh, SshAddress
from edgekit.targets.errors import EdgekitError, TargetError
from edgekit.targets.probe.dump import PROBE_SCRIPT, parse_dump
from edgekit.targets.probe.make_profile import Probed, check_name, make_profile
from edgekit.targets.write_profile import write_profile

LOCAL = "local"
# What a profile is called that is not written.
_UNNAMED = "probed"
_SECONDS = 120


def probe(
    address: str | None = None,
    *,
    dump: Path | str | None = None,
    output: Path | str | None = None,
    save_dump: Path | str | None = None,
    overwrite: bool = False,
) -> Probed:
    """Reads a device and makes its profile; nothing is written on the device.

    Args:
        address: "local", or ``ssh://[user@]host[:port]``; left out where a dump is given.
        dump: What `probe.sh` printed on a device, to be read instead.
        output: ``NAME.toml`` to write the profile to; `edgekit.deploy` takes its path as a target.
        save_dump: A file to write what the device told to.
        overwrite: Whether files that are there may be replaced.

    Returns:
        The profile, and what could not be learned.

    Raises:
        EdgekitError: Neither an address nor a dump is given, or both; or a file is there already.
        TargetError: The dump is none, or of no machine that edgekit knows, or the name is taken.
        ToolError: The device cannot be reached, or has no shell.
        OSError: A file cannot be read or written.
    """
    if (address is None) == (dump is None):
        raise EdgekitError("give the address of a device or the dump of one: one of them, not both")
    path = None if output is None else Path(output)
    if path is not None and path.suffix != ".toml":
        raise TargetError(f"{path}: the name of a profile's file ends in .toml")
    name = _UNNAMED if path is None else check_name(path.stem)
    for file in (path, None if save_dump is None else Path(save_dump)):
        if file is not None and file.exists() and not overwrite:
            raise EdgekitError(f"{file}: it is there already, and kept: --overwrite replaces it")
    source, user = str(address or dump), None
    if dump is not None:
        content = Path(dump).read_bytes()
    elif source == LOCAL:
        content = LocalShell().run("sh -s", stdin=PROBE_SCRIPT, timeout_s=_SECONDS).stdout
    elif source.startswith(SCHEME):
        device = SshAddress.parse(source)
        user = device.user
        content = Ssh(device).run("sh -s", stdin=PROBE_SCRIPT, timeout_s=_SECONDS).stdout
    else:
        raise EdgekitError(f"{source}: what is probed is 'local' or ssh://[user@]host[:port]")
    told = parse_dump(content, source)
    probed = make_profile(told, name, source=source, user=user)
    if save_dump is not None:
        Path(save_dump).write_bytes(content)
    if path is not None:
        lines = [f"Probed by edgekit {'here' if source == LOCAL else f'from {source}'}."]
        lines += [f"Not known: {line}" for line in probed.missing]
        write_profile(path, probed.profile, heading="\n".join(lines))
    return probed
