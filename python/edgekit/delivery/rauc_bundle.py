"""RAUC bundles (rauc.io) that bring a bundle to a device which is updated by RAUC already."""

from __future__ import annotations

from pathlib import Path

from edgekit.bundles.bundle import read_bundle
from edgekit.bundles.manifest import SIGNATURE
from edgekit.delivery.flash_script import run_script
from edgekit.targets.errors import SignatureError


def write_rauc_bundle(
    bundle: str | Path,
    output: str | Path,
    *,
    certificate: Path,
    private_key: Path,
    chain: Path | None = None,
    compatible: str | None = None,
    version: str | None = None,
    plain: bool = False,
) -> Path:
    """Writes a RAUC bundle whose handler hands the bundle to the device's edgekit-board.

    With an RSA key, the same inputs give the same bytes.

    Args:
        bundle: The bundle's folder, signed for edgekit-board.
        output: The RAUC bundle's file.
        certificate: Who signs for RAUC, PEM.
        private_key: Its key, PEM.
        chain: Certificates between that one and the device's keyring, PEM.
        compatible: What the device's system.conf says; by default "edgekit-" and the board's name.
        version: By default the bundle's release.
        plain: Whether to write the format of RAUC before 1.5, which device mapper does not check.

    Raises:
        SignatureError: The bundle is not signed.
        PlanError: The bundle is damaged.
        ToolError: A program is missing; the message says how to get it.
        EdgekitError: The key cannot sign.
    """
    folder = Path(bundle)
    checked = read_bundle(folder)
    if not (folder / SIGNATURE).is_file():
        raise SignatureError(f"{folder}: not signed, and devices take only what is signed")
    words: list[str | Path] = ["--cert", certificate, "--key", private_key]
    words += [] if chain is None else ["--chain", chain]
    words += ["--compatible", compatible or f"edgekit-{checked.target.name}"]
    words += ["--version", version or str(checked.release)]
    words += ["--format", "plain" if plain else "verity"]
    run_script("rauc.sh", [*words, folder, output])
    return Path(output)
