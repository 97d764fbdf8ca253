"""Packages of Debian for another architecture, by a private apt root: without root, and nothing here changes."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

RELEASE = "bookworm"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "http://deb.debian.org/debian"


class PackagesError(Exception):
    """Packages can't be had here; says why and what to do."""


class AptRoot:
    """A folder with an apt of its own, for one architecture.

    Args:
        folder: Where; what was fetched stays there.
        architecture: Debian's name of it.

    Raises:
        PackagesError: apt, dpkg or Debian's keys are missing.
    """

    def __init__(self, folder: Path, architecture: str = "arm64") -> None:
        missing = [tool for tool in ("apt-get", "apt-cache", "dpkg") if shutil.which(tool) is None]
        if missing:
            raise PackagesError(f"no {', '.join(missing)}: packages of Debian can't be unpacked")
        if not KEYRING.is_file():
            raise PackagesError(f"no {KEYRING}: apt install debian-archive-keyring")
        self.archives = folder / "archives"
        for part in ("state/lists/partial", "cache/archives/partial", "etc", "archives"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        mirror = os.environ.get("EDGEKIT_DEBIAN_MIRROR", MIRROR)
        (folder / "etc/sources.list").write_text(
            f"deb [signed-by={KEYRING}] {mirror} {RELEASE} main\n"
        )
        (folder / "status").touch()
        settings = {
            "Dir": folder,
            "Dir::State": folder / "state",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder / "cache",
            "Dir::Etc": folder / "etc",
            "Dir::Etc::sourcelist": folder / "etc/sources.list",
            "APT::Architecture": architecture,
            # As root, apt would fetch as a user to whom the folder may be closed.
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        lines = [f'{key} "{value}";\n' for key, value in settings.items()]
        lines.append(f'APT::Architectures {{ "{architecture}"; }};\n')
        self._configuration = folder / "apt.conf"
        self._configuration.write_text("".join(lines))

    def _run(self, *words: str) -> str:
        """Runs a command of apt on this root.

        Raises:
            PackagesError: It failed.
        """
        done = subprocess.run(
            words,
            cwd=self.archives,
            env=os.environ | {"APT_CONFIG": str(self._configuration), "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode != 0:
            raise PackagesError(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def update(self) -> None:
        """Fetches the lists of packages."""
        self._run("apt-get", "update", "-q")

    def find_dependency(self, package: str, start: str) -> str:
        """Returns the first package that `package` depends on whose name begins with `start`."""
        for line in self._run("apt-cache", "depends", package).splitlines():
            name = line.rpartition("Depends: ")[2].strip()
            if "Depends: " in line and name.startswith(start):
                return name
        raise PackagesError(f"{package} depends on no {start}...")

    def download(self, packages: Sequence[str]) -> list[Path]:
        """Fetches packages; their file names hold their versions."""
        rows = self._run("apt-get", "download", "--print-uris", *packages).splitlines()
        self._run("apt-get", "download", "-q", *packages)
        return [self.archives / row.split()[1] for row in rows]


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a package's files into a folder."""
    subprocess.run(["dpkg", "-x", archive, folder], check=True)
