"""Says in words what a profile holds: each figure, what it decides, and where it comes from."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from edgekit.targets.profile import Profile

# What each key says (its value goes into the braces), and what edgekit decides by it.
_WORDS: dict[str, tuple[str, str]] = {
    "cpu.model": ("processor: {}", ""),
    "cpu.isa": ("plans are made for {}", "which kernels, and how weights are packed"),
    "cpu.instruction_sets": ("it promises {}", ""),
    "cpu.cores": ("{} cores", "how many threads can pay"),
    "cpu.clock_mhz": (
        "up to {} MHz",
        "how long products take beside memory, where layers are chosen by a model",
    ),
    "cpu.l1d_kib": ("level 1 data cache: {} KiB", ""),
    "cpu.l1i_kib": ("level 1 instruction cache: {} KiB", ""),
    "cpu.l2_kib": (
        "level 2 cache: {} KiB",
        "which layers are computed in strips, and when memory is what a layer waits for",
    ),
    "cpu.l2_shared": ("the level 2 cache is {}", ""),
    "cpu.l3_kib": ("level 3 cache: {} KiB", ""),
    "cpu.clusters": ("cores differ: {}", ""),
    "cpu.note": ("{}", ""),
    "speed.int8_products": (
        "{} int8 products in a cycle",
        "which layers are int8 and which float32",
    ),
    "speed.int8_depthwise_products": (
        "{} int8 products in a cycle of depthwise layers",
        "the same",
    ),
    "speed.float_products": ("{} float32 products in a cycle", "the same"),
    "speed.float_depthwise_products": (
        "{} float32 products in a cycle of depthwise layers",
        "the same",
    ),
    "speed.quantized_values": (
        "{} floats become codes in a cycle",
        "what a change between int8 and float32 costs",
    ),
    "speed.load_bytes": ("{} bytes loaded in a cycle", "what layers without products cost"),
    "memory.kind": ("memory: {}", ""),
    "memory.smallest_mib": ("at least {} MiB of memory", ""),
    "memory.largest_mib": ("at most {} MiB of memory", ""),
    "memory.bandwidth_gb_s": (
        "memory gives {} GB/s",
        "what layers larger than the level 2 cache cost",
    ),
    "system.os": ("operating system: {}", ""),
    "system.libc": ("C library: {}", "nothing: the runner is static"),
    "system.triple": ("programs are built for {}", "the compiler"),
    "system.toolchains": ("by the first there is of {}", ""),
    "system.emulator_cpu": (
        "emulated as {}",
        "what `edgekit verify` runs a bundle on where the board is not there",
    ),
    "delivery.default": ("form by default: {}", "what `edgekit deploy` writes"),
    "delivery.available": ("forms: {}", ""),
    "delivery.onnx_style": ("the ONNX form is written for {}", ""),
    "gpu.model": ("GPU: {}", ""),
    "gpu.tensorrt": ("TensorRT {} and newer", ""),
    "gpu.onnx_opset": ("it reads opset {}", "the opset of the ONNX form"),
    "gpu.compute_capability": ("compute capability {}", "whether it computes int8"),
    "gpu.dla_cores": ("{} deep learning accelerators", "whether files for them are written"),
    "gpu.note": ("{}", ""),
    "threads.pin": ("threads run on cores {}", "where a session's threads are pinned"),
    "flash.media": ("reached by {}", ""),
    "flash.user": ("as {}", ""),
    "flash.loader": ("it starts from a card by {}", "how an image of a card is made"),
    "power.supply_v": ("supply: {} V", ""),
    "power.supply_ma": ("supply: {} mA", ""),
    "power.typical_ma": ("draws {} mA when active", ""),
    "power.readout": ("power is read by `{}`", ""),
    "power.rails": ("power is told by {}", "energy of an inference in `edgekit bench --on`"),
    "thermal.zones": ("temperature is told by {}", ""),
    "thermal.throttle_c": (
        "slowed down from {} degrees Celsius on",
        "what `edgekit bench --on` warns of",
    ),
    "accelerators.libraries": ("it has {}", ""),
    "accelerators.devices": ("and the devices {}", ""),
    "identity.compatible": ("its device tree says {}", "whether a probed device is this board"),
}


@dataclass(frozen=True)
class Statement:
    """One thing that a profile says.

    Attributes:
        key: Where in the profile.
        text: In words.
        decides: What edgekit decides by it, "" for nothing.
        source: Where it comes from, "" where it needs no source.
    """

    key: str
    text: str
    decides: str
    source: str


def explain(profile: Profile) -> list[Statement]:
    """Returns all that a profile says, section by section."""
    statements = []
    for key, (words, decides) in _WORDS.items():
        name, field = key.split(".")
        section = getattr(profile, name)
        value = None if section is None else getattr(section, field)
        if value is None or value == ():
            continue
        statements.append(
            Statement(key, words.format(_format(value)), decides, _find_source(section, field))
        )
    return statements


def list_keys() -> set[str]:
    """Returns every key that `explain` has words for."""
    return set(_WORDS)


def _format(value: Any) -> str:
    if isinstance(value, bool):
        return "everyone's" if value else "a core's or a cluster's own"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _find_source(section: Any, field: str) -> str:
    source = next(
        (item.name for item in dataclasses.fields(section) if item.name == "source"), None
    )
    if source is None:
        return ""
    found = section.source
    return found.get(field, "") if isinstance(found, dict) else str(found or "")
