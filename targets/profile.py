"""What a board is: `profiles/*.toml`, validated into frozen dataclasses."""

import dataclasses
import difflib
import platform
import re
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.targets.errors import TargetError
from edgekit.targets.sections import (
    Accelerators,
    Cpu,
    Delivery,
    Flash,
    Gpu,
    Identity,
    Memory,
    Power,
    Speed,
    System,
    Thermal,
    Threads,
)

PROFILES_DIR = Path(__file__).parent / "profiles"
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
TOOLCHAINS_DIR = Path(__file__).parent / "toolchains"
ENGINES_DIR = Path(__file__).parent / "engines"

# The tokens of csrc/isa/isa.inc, and "auto": the strongest set of the machine that deploys.
ISAS = (
    "auto",
    "generic",
    "x86_avx2",
    "x86_avxvnni",
    "x86_avx512vnni",
    "x86_amx",
    "arm_neon",
    "arm_neondot",
    "arm_i8mm",
)
FORMS = ("native", "onnx", "tflite")
ONNX_STYLES = (
    "ort-x86",
    "ort-arm",
    "ort-x86-qlinear",
    "ort-arm-qlinear",
    "ort-uint16",
    "ort-int16",
    "ort-int4",
    "openvino",
    "tensorrt",
    "tensorrt-float",
)
MEDIA = ("ssh", "sd")
LOADERS = ("extlinux", "rpi")
# As many as Linux's sched_setaffinity() takes by a plain mask.
MOST_CORES = 1024
_TRIPLE = re.compile(r"[A-Za-z0-9_]+(-[A-Za-z0-9_.]+){1,3}")
TOOLCHAINS = tuple(sorted(path.stem for path in TOOLCHAINS_DIR.glob("*.cmake")))


@dataclass(frozen=True)
class Profile:
    """A board: everything that deploying to it depends on."""

    name: str
    title: str
    cpu: Cpu
    system: System
    delivery: Delivery
    memory: Memory = field(default_factory=Memory)
    speed: Speed = field(default_factory=Speed)
    gpu: Gpu | None = None
    threads: Threads = field(default_factory=Threads)
    flash: Flash = field(default_factory=lambda: Flash(media=()))
    power: Power = field(default_factory=Power)
    thermal: Thermal = field(default_factory=Thermal)
    accelerators: Accelerators = field(default_factory=Accelerators)
    identity: Identity = field(default_factory=Identity)

    @property
    def isa(self) -> str:
        """Token of csrc/isa/isa.inc that plans are made for, or "auto"."""
        return self.cpu.isa

    @property
    def cores(self) -> int | None:
        """Number of cores, None where the profile leaves it open."""
        return self.cpu.cores

    @property
    def triple(self) -> str:
        """GNU triple."""
        return self.system.triple

    @property
    def emulator_cpu(self) -> str | None:
        """What qemu's user emulator takes as `-cpu`."""
        return self.system.emulator_cpu

    @property
    def default_form(self) -> str:
        """The form of a deployment that names none."""
        return self.delivery.default

    @property
    def forms(self) -> tuple[str, ...]:
        """Every form that the board can run."""
        return self.delivery.available

    @property
    def onnx_opset(self) -> int | None:
        """The newest opset that the board's engine reads, None where any is fine."""
        return None if self.gpu is None else self.gpu.onnx_opset

    @property
    def onnx_style(self) -> str:
        """The engine that the ONNX form is written for."""
        return self.delivery.onnx_style


def list_profiles() -> list[str]:
    """Returns the names of the profiles that ship with edgekit, sorted."""
    return sorted(path.stem for path in PROFILES_DIR.glob("*.toml"))


def load_profile(name: str | Path) -> Profile:
    """Loads a profile by name, or the user's own by its path.

    Args:
        name: One of `list_profiles()`, or a path that ends in `.toml`.

    Raises:
        TargetError: No profile has that name (the message gives the nearest), or the file is
            invalid (the message names file and key).
    """
    if str(name).endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise TargetError(f"{path}: no such profile file")
        return read_profile(path)
    known = list_profiles()
    if str(name) in known:
        return read_profile(PROFILES_DIR / f"{name}.toml")
    nearest = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    meant = f"Did you mean {' or '.join(nearest)}? " if nearest else ""
    raise TargetError(
        f"unknown target '{name}'. {meant}Known: {', '.join(known)}; "
        "or give the path of your own .toml profile."
    )


def read_profile(path: Path) -> Profile:
    """Reads one profile file.

    Raises:
        TargetError: The file cannot be read, is not TOML, or breaks a rule; the message names file
            and key.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise TargetError(f"{path}: cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise TargetError(f"{path}: not valid TOML: {error}") from error
    profile: Profile = _parse_table(Profile, table, path, "")
    if profile.isa == "auto":
        profile = _resolve_host(profile)
    _check(profile, path)
    return profile


def _resolve_host(profile: Profile) -> Profile:
    """Replaces what the file leaves to this machine."""
    system, delivery = profile.system, profile.delivery
    if system.triple == "auto":
        system = dataclasses.replace(system, triple=f"{platform.machine()}-linux-gnu")
    if delivery.onnx_style == "auto":
        style = "ort-arm" if system.architecture == "aarch64" else "ort-x86"
        delivery = dataclasses.replace(delivery, onnx_style=style)
    cpu = profile.cpu
    l2_kib = _read_l2_kib()
    if cpu.l2_kib is None and l2_kib is not None:
        source = {**cpu.source, "l2_kib": f"this machine's {_CACHES}"}
        cpu = dataclasses.replace(cpu, l2_kib=l2_kib, source=source)
    return dataclasses.replace(profile, cpu=cpu, system=system, delivery=delivery)


def _read_l2_kib() -> int | None:
    """Returns the level 2 cache of this machine's first core, None where Linux does not tell."""
    for cache in sorted(_CACHES.glob("index*")):
        try:
            level, size = ((cache / name).read_text().strip() for name in ("level", "size"))
        except OSError:
            continue
        if level == "2" and re.fullmatch(r"[1-9][0-9]*K", size):
            return int(size[:-1])
    return None


def _parse_table(cls: type, table: dict[str, Any], path: Path, prefix: str) -> Any:
    """Makes a `cls` of `table`: its keys must be fields of `cls`, its values of their types."""
    fields = {item.name: item for item in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for key in table:
        if key not in fields:
            nearest = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean '{nearest[0]}'?" if nearest else f"known: {', '.join(fields)}"
            raise TargetError(f"{path}: unknown key '{prefix}{key}'; {hint}")
    for key, item in fields.items():
        optional = (item.default, item.default_factory) != (dataclasses.MISSING,) * 2
        if not optional and key not in table:
            raise TargetError(f"{path}: the key '{prefix}{key}' is missing")
    values = {key: _parse_value(hints[key], table[key], path, prefix + key) for key in table}
    return cls(**values)


def _parse_value(hint: Any, value: Any, path: Path, key: str) -> Any:
    """Checks `value` against the type `hint`; arrays become tuples and tables dataclasses."""
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise TargetError(f"{path}: '{key}' must be a table")
        return _parse_table(typing.cast(type, hint), value, path, key + ".")
    if typing.get_origin(hint) is tuple:
        element = typing.get_args(hint)[0]
        if not isinstance(value, list) or not all(type(item) is element for item in value):
            wanted = "strings" if element is str else "whole numbers"
            raise TargetError(f"{path}: '{key}' must be an array of {wanted}")
        return tuple(value)
    if typing.get_origin(hint) is dict:
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise TargetError(f"{path}: '{key}' must be a table of strings")
        return dict(value)
    if hint is float and type(value) is int:
        try:
            value = float(value)
        except OverflowError as error:
            raise TargetError(f"{path}: '{key}' is too large") from error
    if type(value) is not hint:
        given = type(value).__name__
        raise TargetError(f"{path}: '{key}' must be of type {hint.__name__}, not {given}")
    return value


def _check(profile: Profile, path: Path) -> None:
    """Checks the rules that types cannot say."""
    if profile.name != path.stem:
        raise TargetError(f"{path}: 'name' is '{profile.name}', but the file is '{path.name}'")
    if not _TRIPLE.fullmatch(profile.triple):
        raise TargetError(
            f"{path}: 'system.triple' is '{profile.triple}', but must be a GNU triple such as aarch64-linux-gnu"
        )
    _check_choice(path, "cpu.isa", profile.isa, ISAS)
    for form in profile.forms:
        _check_choice(path, "delivery.available", form, FORMS)
    _check_choice(path, "delivery.default", profile.default_form, profile.forms)
    _check_choice(path, "delivery.onnx_style", profile.onnx_style, ONNX_STYLES)
    for toolchain in profile.system.toolchains:
        _check_choice(path, "system.toolchains", toolchain, TOOLCHAINS)
    for medium in profile.flash.media:
        _check_choice(path, "flash.media", medium, MEDIA)
    _check_choice(path, "flash.loader", profile.flash.loader, LOADERS)
    _check_pins(profile, path)
    given = [value is not None for name, value in vars(profile.speed).items() if name != "source"]
    if any(given) and not all(given):
        raise TargetError(f"{path}: 'speed' must have all of its figures, or none")
    if profile.onnx_style.startswith("tensorrt") and profile.gpu is None:
        raise TargetError(f"{path}: 'delivery.onnx_style' is TensorRT's, but there is no 'gpu'")
    if profile.gpu and not re.fullmatch(r"[1-9][0-9]*\.[0-9]+", profile.gpu.tensorrt):
        raise TargetError(
            f"{path}: 'gpu.tensorrt' is '{profile.gpu.tensorrt}', but must be a version such as 8.5"
        )
    for section in ("cpu", "memory", "speed", "power", "thermal", "gpu"):
        if (figures := getattr(profile, section)) is not None:
            _check_figures(figures, path, section)


def _check_choice(path: Path, key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise TargetError(f"{path}: '{key}' is '{value}', but must be one of: {', '.join(choices)}")


def _check_pins(profile: Profile, path: Path) -> None:
    """Checks that threads are pinned to different cores, and to such as the processor has."""
    pins = profile.threads.pin
    cores = MOST_CORES if profile.cores is None else profile.cores
    for core in pins:
        if not 0 <= core < cores:
            raise TargetError(
                f"{path}: 'threads.pin' names core {core}, but cores are numbered from 0 to {cores - 1}"
            )
    if len(set(pins)) < len(pins):
        raise TargetError(f"{path}: 'threads.pin' names a core twice: each thread needs its own")


def _check_figures(
    section: Cpu | Memory | Speed | Power | Thermal | Gpu, path: Path, name: str
) -> None:
    """Checks that each figure is positive and has a source, and each source a figure."""
    figures = {
        item.name: value
        for item in dataclasses.fields(section)
        if type(value := getattr(section, item.name)) in (int, float)
    }
    for key, value in figures.items():
        if not 0 < value < float("inf"):
            raise TargetError(f"{path}: '{name}.{key}' is {value}, but must be positive and finite")
        if key not in section.source:
            raise TargetError(
                f"{path}: the figure '{name}.{key}' has no source: add '{name}.source.{key}'"
            )
    for key in section.source:
        if key not in figures:
            raise TargetError(f"{path}: '{name}.source.{key}' belongs to no figure")
