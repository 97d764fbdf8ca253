"""Makes a board's profile of a device's dump: each figure with the file that it was read from."""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgekit.targets.errors import TargetError
from edgekit.targets.probe.cores import CPUINFO, Kind, find_strong, group_cores, read_blocks
from edgekit.targets.probe.device import DEVICE_TREE, Device, read_device
from edgekit.targets.probe.dump import Dump
from edgekit.targets.probe.sensors import Rail, list_rails, read_accelerators, read_thermal
from edgekit.targets.profile import TOOLCHAINS, Profile, list_profiles, load_profile
from edgekit.targets.sections import (
    Cpu,
    Delivery,
    Flash,
    Identity,
    Memory,
    Power,
    Speed,
    System,
    Threads,
)

_CPU = "/sys/devices/system/cpu"
_MIB_IN_KIB = 1024
# Qemu's user emulator has no model of each core: the one that has the same instructions.
_EMULATED = {
    "arm_i8mm": "max",
    "arm_neondot": "cortex-a76",
    "arm_neon": "cortex-a72",
    "x86_avx2": "Haswell-v4",
}
_CLOSER = {"Cortex-A53": "cortex-a53", "Cortex-A57": "cortex-a57", "Cortex-A72": "cortex-a72"}


@dataclass(frozen=True)
class Probed:
    """A device that was read.

    Attributes:
        profile: What is known of it.
        device: The same as facts.
        rails: Where its power can be read.
        missing: What could not be learned, each with the reason, and what it is for.
        like: The shipped profile of the same board, or None; what the device does not tell is taken from there.
    """

    profile: Profile
    device: Device
    rails: tuple[Rail, ...]
    missing: tuple[str, ...]
    like: str | None


def make_profile(dump: Dump, name: str, *, source: str, user: str | None = None) -> Probed:
    """Makes the profile of a device.

    Args:
        dump: What the device told.
        name: What to call it: the stem of the file that it will lie in.
        source: Where the dump comes from, for messages.
        user: Who it was reached as, by ssh.

    Raises:
        TargetError: The dump tells no architecture.
    """
    device = read_device(dump, source)
    like = find_like(device)
    rails = tuple(list_rails(dump))
    missing: list[str] = []
    kinds = group_cores(device.cores)
    cpu = _make_cpu(dump, device, kinds, like, missing)
    media = ("ssh",) if like is None or not like.flash.media else like.flash.media
    power = Power() if like is None else like.power
    if any(not rail.readable for rail in rails):
        missing.append("energy: the counters are there, but only root may read them")
    elif not rails:
        missing.append("power.rails: no sensor of the kernel tells power")
    accelerators = read_accelerators(dump)
    profile = Profile(
        name=name,
        title=_make_title(device, like),
        cpu=cpu,
        system=_make_system(device, like, missing),
        delivery=_make_delivery(device, like),
        memory=_make_memory(dump, like, missing),
        speed=_find_speed(cpu, kinds, like, missing),
        gpu=None if like is None else like.gpu,
        threads=_make_threads(kinds, missing),
        flash=Flash(media=media, user=user or (like.flash.user if like else None)),
        power=dataclasses.replace(power, rails=tuple(str(rail) for rail in rails)),
        thermal=read_thermal(dump),
        accelerators=accelerators,
        identity=Identity(device.compatible, f"{DEVICE_TREE}/compatible")
        if device.compatible
        else Identity(),
    )
    if not profile.thermal.zones:
        missing.append("thermal.zones: the kernel tells no temperature")
    if like is not None and like.gpu and not any("TensorRT" in x for x in accelerators.libraries):
        missing.append("accelerators: no TensorRT was found, which the ONNX form is for")
    return Probed(profile, device, rails, tuple(missing), None if like is None else like.name)


@functools.cache
def _load_shipped() -> tuple[Profile, ...]:
    """Returns every shipped profile of a board, which "host" is not."""
    return tuple(load_profile(name) for name in list_profiles() if name != "host")


def find_like(device: Device) -> Profile | None:
    """Returns the shipped profile of the same board: one that names an entry of the device's `compatible`."""
    for word in device.compatible:
        for profile in _load_shipped():
            if word in profile.identity.compatible:
                return profile
    return None


def _make_title(device: Device, like: Profile | None) -> str:
    if device.model:
        return device.model
    if like is not None:
        return like.title
    names = [core.name for core in device.cores if core.name]
    return f"{names[0] if names else device.architecture} machine"


def _make_cpu(
    dump: Dump, device: Device, kinds: Sequence[Kind], like: Profile | None, missing: list[str]
) -> Cpu:
    figures: dict[str, int | bool] = {}
    source: dict[str, str] = {}

    def learn(key: str, value: int | None, path: str) -> None:
        if value is not None and value > 0:
            figures[key], source[key] = value, path

    if device.cores:
        online = dump.text(f"{_CPU}/online")
        learn("cores", len(device.cores), CPUINFO if online is None else f"{_CPU}/online")
    first = _list_first(kinds)
    for core in first:
        path = f"{_CPU}/cpu{core}/cpufreq/cpuinfo_max_freq"
        if (clock := dump.positive(path)) is not None:
            learn("clock_mhz", clock // 1000, path)
            break
    if "clock_mhz" not in figures and device.architecture == "x86_64" and not device.emulation:
        learn("clock_mhz", _read_current_clock(dump), f"{CPUINFO}: cpu MHz, when it was probed")
    shared = _learn_caches(dump, device, first, learn)
    if like is not None:
        # What a board's kernel does not tell, its maker does.
        for key in ("cores", "clock_mhz", "l1d_kib", "l1i_kib", "l2_kib", "l3_kib"):
            value = getattr(like.cpu, key)
            if key not in figures and value is not None:
                figures[key], source[key] = value, like.cpu.source[key]
                if key == "l2_kib":
                    shared = like.cpu.l2_shared
    for key, use in (
        ("cores", "how many threads pay"),
        ("clock_mhz", "how long products take beside memory"),
        ("l2_kib", "which layers are computed in strips"),
    ):
        if key not in figures:
            missing.append(f"cpu.{key}: the device does not tell it; it decides {use}")
    if not device.features:
        missing.append(
            "cpu.instruction_sets: the device does not tell them; generic kernels are taken"
        )
    names = list(dict.fromkeys(kind.name for kind in kinds if kind.name))
    words = " and ".join(names) or device.architecture
    note = None
    if device.emulation:
        note = f"Emulated ({device.emulation}): no time taken on it is a board's."
    elif device.virtual:
        note = f"In a virtual machine ({device.virtual}): its neighbours can slow it down."
    return Cpu(
        model=words,
        isa=_find_isa(device),
        instruction_sets=device.instruction_sets,
        cores=figures.get("cores"),
        clock_mhz=figures.get("clock_mhz"),
        l1d_kib=figures.get("l1d_kib"),
        l1i_kib=figures.get("l1i_kib"),
        l2_kib=figures.get("l2_kib"),
        l2_shared=shared,
        l3_kib=figures.get("l3_kib"),
        clusters=tuple(map(str, kinds)) if len(kinds) > 1 else (),
        note=note,
        source=source,
    )


def _list_first(kinds: Sequence[Kind]) -> list[int]:
    """Returns the cores of the kinds, the strongest kind first."""
    return [core for kind in kinds for core in kind.cores]


def _read_current_clock(dump: Dump) -> int | None:
    clocks = [block.get("cpu mhz", "") for block in read_blocks(dump)]
    known = [float(clock) for clock in clocks if re.fullmatch(r"[0-9]{1,5}(\.[0-9]+)?", clock)]
    return round(max(known)) if known else None


def _learn_caches(
    dump: Dump, device: Device, cores: Sequence[int], learn: Callable[[str, int | None, str], None]
) -> bool | None:
    """Tells ``learn`` the caches of the strongest core; returns whether its level 2 cache is everyone's."""
    shared = None
    for core in cores[:1]:
        for path in dump.match(f"{_CPU}/cpu{core}/cache/index[0-9]*/level"):
            folder = path.removesuffix("/level")
            size = re.fullmatch(r"([0-9]{1,9})([KM])", dump.text(f"{folder}/size") or "")
            level, kind = dump.number(path), dump.text(f"{folder}/type")
            if size is None:
                continue
            kib = int(size.group(1)) * (1024 if size.group(2) == "M" else 1)
            key = {(1, "Data"): "l1d_kib", (1, "Instruction"): "l1i_kib"}.get(
                (level or 0, kind or "")
            )
            if key is None and level in (2, 3) and kind == "Unified":
                key = f"l{level}_kib"
            if key is None:
                continue
            learn(key, kib, f"{folder}/size")
            if key == "l2_kib":
                shared = _count(dump.text(f"{folder}/shared_cpu_list")) == len(device.cores)
    return shared


def _count(cores: str | None) -> int:
    """Returns how many cores a list as "0-3,8" names; 0 for anything else."""
    total = 0
    for part in (cores or "").split(","):
        found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part.strip())
        if found is None:
            return 0
        total += 1 if found.group(2) is None else int(found.group(2)) - int(found.group(1)) + 1
    return total


def _find_isa(device: Device) -> str:
    """Returns the instruction set of plans; of architectures whose sets follow from none, their shipped profile's."""
    if device.isa != "generic":
        return device.isa
    other = _find_architecture(device)
    if device.architecture == "arm" and other is not None and "neon" in device.instruction_sets:
        return other.isa
    return "generic"


def _find_architecture(device: Device) -> Profile | None:
    """Returns the first shipped profile of the device's architecture."""
    same = (p for p in _load_shipped() if p.system.architecture == device.architecture)
    return next(same, None)


def _make_system(device: Device, like: Profile | None, missing: list[str]) -> System:
    other = like or _find_architecture(device)
    libc = device.libc or (like.system.libc if like else "unknown")
    if not device.libc:
        missing.append("system.libc: none was found; the runner is static and needs none")
    if not device.os:
        missing.append("system.os: there is no os-release")
    ending = "musl" if libc.startswith("musl") else "gnu"
    if device.architecture == "arm":
        ending += "eabihf"
    toolchains = (
        other.system.toolchains
        if other is not None
        else tuple(name for name in TOOLCHAINS if device.architecture in name.split("-"))
    )
    isa = _find_isa(device)
    names = {core.name for core in device.cores}
    emulator = next((cpu for name, cpu in _CLOSER.items() if names == {name}), None)
    if device.architecture not in ("aarch64", "x86_64"):
        emulator = other.system.emulator_cpu if other is not None else None
    elif emulator is None:
        emulator = _EMULATED.get(isa, "Nehalem-v2" if device.architecture == "x86_64" else None)
        if isa in ("x86_avxvnni", "x86_avx512vnni", "x86_amx"):
            emulator = None
    return System(
        os=device.os or (like.system.os if like else "Linux"),
        libc=libc,
        triple=f"{device.architecture}-linux-{ending}",
        toolchains=toolchains,
        emulator_cpu=emulator,
    )


def _make_delivery(device: Device, like: Profile | None) -> Delivery:
    if like is not None:
        return like.delivery
    other = _find_architecture(device)
    if other is not None and device.architecture not in ("aarch64", "x86_64"):
        return other.delivery
    style = "ort-x86" if device.architecture == "x86_64" else "ort-arm"
    return Delivery("native", ("native", "onnx", "tflite"), style)


def _make_memory(dump: Dump, like: Profile | None, missing: list[str]) -> Memory:
    path = "/proc/meminfo"
    found = re.search(r"^MemTotal:\s+([0-9]{1,15}) kB", dump.files.get(path, ""), re.MULTILINE)
    mib = int(found.group(1)) // _MIB_IN_KIB if found else 0
    figures: dict[str, int] = {}
    source: dict[str, str] = {}
    if mib:
        for key in ("smallest_mib", "largest_mib"):
            figures[key], source[key] = mib, f"{path}: MemTotal, what Linux has of it"
    else:
        missing.append(f"memory: {path} tells no MemTotal")
    bandwidth = like.memory.bandwidth_gb_s if like else None
    if like is not None and bandwidth is not None:
        source["bandwidth_gb_s"] = like.memory.source["bandwidth_gb_s"]
    else:
        missing.append(
            "memory.bandwidth_gb_s: Linux does not tell it; large layers are taken to cost what small ones do"
        )
    return Memory(
        kind=like.memory.kind if like else None,
        smallest_mib=figures.get("smallest_mib"),
        largest_mib=figures.get("largest_mib"),
        bandwidth_gb_s=bandwidth,
        source=source,
    )


def _find_speed(cpu: Cpu, kinds: Sequence[Kind], like: Profile | None, missing: list[str]) -> Speed:
    """Returns the speed of the same board, else of the same core and instruction set in any shipped profile."""
    if like is not None and like.speed.int8_products is not None and like.isa == cpu.isa:
        return like.speed
    strongest = kinds[0].name if kinds else ""
    for profile in _load_shipped():
        words = re.findall(r"[A-Za-z]+-[A-Z]\w+", profile.cpu.model)
        if profile.speed.int8_products and strongest in words[:1] and profile.isa == cpu.isa:
            return profile.speed
    missing.append(
        "speed: figures of the instruction set stand in until `edgekit bench --on ... --store` measures them"
    )
    return Speed()


def _make_threads(kinds: Sequence[Kind], missing: list[str]) -> Threads:
    pins = find_strong(kinds)
    if pins is None:
        missing.append("threads.pin: the cores differ, but nothing tells which are the fast ones")
    return Threads(pins or ())


def check_name(name: str) -> str:
    """Returns a profile's name.

    Raises:
        TargetError: It is none, or a shipped profile has it.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name):
        raise TargetError(f"'{name}' is no name for a profile: letters, digits, dots, hyphens")
    if name in list_profiles():
        raise TargetError(f"'{name}' is the name of a shipped profile: choose another for your own")
    return name
