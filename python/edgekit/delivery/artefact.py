"""Addresses that are files: images, cards and packages, made with options by name."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.bundles.bundle import Bundle
from edgekit.delivery.card import write_card
from edgekit.delivery.card_image import OwnSystem, write_card_image
from edgekit.delivery.debian_package import write_debian_package
from edgekit.delivery.rauc_bundle import write_rauc_bundle
from edgekit.targets.errors import EdgekitError

# What a name may be given for: a word, any number of words, or nothing.
_IMAGE = {
    "base": "FILE",
    "kernel": "FILE",
    "busybox": "FILE",
    "modules": "FOLDER",
    "boot": "FOLDER",
    "loader": "FILE@BYTES",
    "append": "WORDS",
    "data-mib": "N",
    "key": "FILE",
}
OPTIONS: Mapping[str, Mapping[str, str]] = {
    "image": _IMAGE,
    "card": _IMAGE | {"erase": "NAME", "partition": "yes", "fixed": "yes"},
    "deb": {"package": "NAME", "version": "TEXT", "maintainer": "TEXT"},
    "rauc": {
        "cert": "FILE",
        "cert-key": "FILE",
        "chain": "FILE",
        "compatible": "TEXT",
        "version": "TEXT",
        "format": "verity | plain",
    },
}
_REPEATED = ("key", "loader")

# Size in bytes, and what was done.
_Written = tuple[int, tuple[str, ...]]


@dataclass(frozen=True)
class Artefact:
    """What was written.

    Attributes:
        address: Where.
        size: In bytes.
        steps: What was done, a line each.
    """

    address: str
    size: int
    steps: tuple[str, ...]


def is_artefact(address: str) -> bool:
    """Returns whether an address is one of this module's."""
    return address.partition("://")[0] in OPTIONS


def write_artefact(
    bundle: Bundle,
    address: str,
    key: Path | None,
    options: Sequence[str],
    *,
    listen: str | None = None,
) -> Artefact:
    """Writes a bundle to an address of this module.

    Args:
        bundle: The bundle.
        address: ``image://FILE``, ``card:///dev/sdX``, ``deb://FILE`` or ``rauc://FILE``.
        key: The public key that may sign for the device.
        options: Words ``NAME=VALUE``; `OPTIONS` holds the names. ``key`` and ``loader`` may be repeated.
        listen: Where the device's service serves; by default what `write_card_image` and `write_debian_package` say.

    Raises:
        EdgekitError: The address or an option is wrong, one is missing, or writing was refused.
        ToolError: This machine lacks a program; the message says how to get it.
    """
    scheme, _, place = address.partition("://")
    if not place:
        raise EdgekitError(f"{address}: which file? {scheme}://card.img, say")
    given = _Given(scheme, options, listen)
    writers: dict[str, Callable[[Bundle, str, Path | None, _Given], _Written]] = {
        "image": _write_image,
        "card": _write_card,
        "deb": _write_debian_package,
        "rauc": _write_rauc_bundle,
    }
    size, steps = writers[scheme](bundle, place, key, given)
    return Artefact(address, size, steps)


class _Given:
    """Options that were given."""

    def __init__(self, scheme: str, words: Sequence[str], listen: str | None) -> None:
        self.listen = listen
        self._scheme = scheme
        self._values: dict[str, list[str]] = {}
        names = OPTIONS[scheme]
        for word in words:
            name, equals, value = word.partition("=")
            if name not in names or not equals or not value:
                known = ", ".join(f"{name}={value}" for name, value in names.items())
                raise EdgekitError(f"'{word}' is no option of {scheme}://: {known}")
            if name in self._values and name not in _REPEATED:
                raise EdgekitError(f"'{name}' is given twice")
            self._values.setdefault(name, []).append(value)

    def all(self, name: str) -> list[str]:
        """Returns each value of a name."""
        return self._values.get(name, [])

    def text(self, name: str) -> str | None:
        """Returns a name's value, or None."""
        return next(iter(self.all(name)), None)

    def path(self, name: str) -> Path | None:
        """Returns a name's value as a path, or None."""
        value = self.text(name)
        return None if value is None else Path(value)

    def needed(self, name: str) -> Path:
        """Returns a path that must be given."""
        value = self.path(name)
        if value is None:
            raise EdgekitError(f"{self._scheme}:// needs {name}={OPTIONS[self._scheme][name]}")
        return value

    def number(self, name: str) -> int | None:
        """Returns a whole number, or None."""
        value = self.text(name)
        if value is not None and not value.isdecimal():
            raise EdgekitError(f"'{name}={value}': a whole number is wanted")
        return None if value is None else int(value)

    def flag(self, name: str) -> bool:
        """Returns whether a name was given as ``NAME=yes``."""
        value = self.text(name)
        if value not in (None, "yes"):
            raise EdgekitError(f"'{name}={value}': {name}=yes, or leave it out")
        return value is not None


def _make_image(bundle: Bundle, image: Path, key: Path | None, given: _Given) -> None:
    kernel = given.path("kernel")
    system = None
    if kernel is not None:
        system = OwnSystem(
            kernel,
            given.needed("busybox"),
            modules=given.path("modules"),
            boot=given.path("boot"),
            loaders=tuple(_read_loader(word) for word in given.all("loader")),
            append=given.text("append") or "",
        )
    else:
        for name in ("busybox", "modules", "boot", "loader", "append"):
            if given.all(name):
                raise EdgekitError(f"'{name}' goes with 'kernel': a card that runs nothing else")
    keys = [] if key is None else [key]
    write_card_image(
        bundle.path,
        image,
        keys=keys + [Path(name) for name in given.all("key")],
        base=given.path("base"),
        system=system,
        listen=given.listen,
        data_mib=given.number("data-mib"),
    )


def _read_loader(word: str) -> tuple[Path, int]:
    file, _, at = word.rpartition("@")
    if not file or not at.isdecimal():
        raise EdgekitError(f"'loader={word}': FILE@BYTES is wanted")
    return Path(file), int(at)


def _write_image(bundle: Bundle, place: str, key: Path | None, given: _Given) -> _Written:
    image = Path(place)
    _make_image(bundle, image, key, given)
    return (image.stat().st_size, (f"block map {place}.bmap",))


def _write_card(bundle: Bundle, place: str, key: Path | None, given: _Given) -> _Written:
    with tempfile.TemporaryDirectory(prefix="edgekit-card-") as folder:
        image = Path(folder) / "card.img"
        _make_image(bundle, image, key, given)
        said = write_card(
            image,
            place,
            erase=given.text("erase"),
            partition=given.flag("partition"),
            fixed=given.flag("fixed"),
        )
        return (image.stat().st_size, tuple(said.splitlines()))


def _write_debian_package(bundle: Bundle, place: str, key: Path | None, given: _Given) -> _Written:
    if key is None:
        raise EdgekitError("a package brings the public key that may sign for its device: --key")
    package = write_debian_package(
        bundle.path,
        place,
        key=key,
        package=given.text("package"),
        version=given.text("version"),
        maintainer=given.text("maintainer"),
        listen=given.listen,
    )
    return (package.stat().st_size, ())


def _write_rauc_bundle(bundle: Bundle, place: str, key: Path | None, given: _Given) -> _Written:
    if given.text("format") not in (None, "verity", "plain"):
        raise EdgekitError(f"'format={given.text('format')}': verity or plain")
    written = write_rauc_bundle(
        bundle.path,
        place,
        certificate=given.needed("cert"),
        private_key=given.needed("cert-key"),
        chain=given.path("chain"),
        compatible=given.text("compatible"),
        version=given.text("version"),
        plain=given.text("format") == "plain",
    )
    return (written.stat().st_size, ())
