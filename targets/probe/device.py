"""What a device is, from its dump: architecture, what it may run, system, and whether it is real."""

import re
import shlex
from dataclasses import dataclass

from edgekit.targets.errors import TargetError
from edgekit.targets.probe.cores import Core, is_foreign, read_blocks, read_cores
from edgekit.targets.probe.dump import Dump

DEVICE_TREE = "/proc/device-tree"
DMI = "/sys/class/dmi/id"
# What `uname -m` says, and the architecture of a GNU triple.
_ARCHITECTURES = {
    "x86_64": "x86_64",
    "aarch64": "aarch64",
    "arm64": "aarch64",
    "armv8l": "aarch64",
    "armv7l": "arm",
    "armv6l": "arm",
    "riscv64": "riscv64",
}
# The sets of csrc/isa/isa.inc, the strongest first, with the words of /proc/cpuinfo that each takes (csrc/isa/isa.cc).
_AVX2 = frozenset({"avx", "avx2", "fma", "xsave"})
_AVX512VNNI = _AVX2 | {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_vnni"}
_SETS = {
    "x86_64": (
        ("x86_amx", _AVX512VNNI | {"amx_tile", "amx_int8"}),
        ("x86_avx512vnni", _AVX512VNNI),
        ("x86_avxvnni", _AVX2 | {"avx_vnni"}),
        ("x86_avx2", _AVX2),
    ),
    "aarch64": (
        ("arm_i8mm", frozenset({"asimd", "asimddp", "i8mm"})),
        ("arm_neondot", frozenset({"asimd", "asimddp"})),
        ("arm_neon", frozenset({"asimd"})),
    ),
}
# Words of /proc/cpuinfo, and what profiles call them.
_NAMED = {
    "asimd": "neon",
    "neon": "neon",
    "vfpv4": "vfpv4",
    "crc32": "crc32",
    "atomics": "lse",
    "asimdhp": "fp16",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "sve2": "sve2",
    "sse4_2": "sse4.2",
    "avx": "avx",
    "avx2": "avx2",
    "fma": "fma",
    "f16c": "f16c",
    "avx_vnni": "avxvnni",
    "avx512f": "avx512f",
    "avx512dq": "avx512dq",
    "avx512bw": "avx512bw",
    "avx512vl": "avx512vl",
    "avx512_vnni": "avx512vnni",
    "avx512vbmi": "avx512vbmi",
    "amx_int8": "amx-int8",
    "v": "rvv",
}


@dataclass(frozen=True)
class Device:
    """A device as its dump tells.

    Attributes:
        architecture: First part of a GNU triple.
        cores: All of them.
        features: What every core can do, as /proc/cpuinfo names it.
        model: What the device calls itself, "" where it doesn't.
        compatible: Of its device tree, the most special first.
        os: Name and version of the operating system, "" where nothing tells.
        libc: "glibc" or "musl" with its version, where it is known, or "".
        emulation: Why it is no real processor: what emulates it, or "".
        virtual: Why it may share its processor: in a virtual machine, or "".
    """

    architecture: str
    cores: tuple[Core, ...]
    features: frozenset[str]
    model: str
    compatible: tuple[str, ...]
    os: str
    libc: str
    emulation: str
    virtual: str

    @property
    def isa(self) -> str:
        """The strongest set of csrc/isa/isa.inc that every core has."""
        for name, words in _SETS.get(self.architecture, ()):
            if words <= self.features:
                return name
        return "generic"

    def runs(self, architecture: str) -> bool:
        """Returns whether programs of an architecture run here; "armv7" and the like are "arm"."""
        is_arm = self.architecture == "arm" and architecture.startswith("arm")
        return is_arm or self.architecture == architecture

    @property
    def instruction_sets(self) -> tuple[str, ...]:
        """What every core has of what profiles name."""
        return tuple(dict.fromkeys(_NAMED[word] for word in _NAMED if word in self.features))


def read_device(dump: Dump, name: str) -> Device:
    """Returns what a dump says that the device is.

    Raises:
        TargetError: It tells no architecture that edgekit knows.
    """
    architecture = _read_architecture(dump, name)
    cores = tuple(read_cores(dump, architecture))
    features = [core.features for core in cores if core.features]
    return Device(
        architecture=architecture,
        cores=cores,
        features=frozenset.intersection(*features) if features else frozenset(),
        model=_read_model(dump),
        compatible=tuple((dump.text(f"{DEVICE_TREE}/compatible") or "").split()),
        os=_read_os(dump),
        libc=_read_libc(dump),
        emulation=_find_emulation(dump, architecture),
        virtual=_find_virtual(dump),
    )


def _read_architecture(dump: Dump, name: str) -> str:
    system = dump.commands.get("uname -s", "").strip()
    if system and system != "Linux":
        raise TargetError(
            f"{name}: it runs {_one_line(system)}, but edgekit's programs run on Linux"
        )
    told = (
        dump.commands.get("uname -m", "").strip() or dump.text("/proc/sys/kernel/arch") or ""
    ).split("\n")[0]
    if told in _ARCHITECTURES:
        return _ARCHITECTURES[told]
    if told:
        known = ", ".join(sorted(set(_ARCHITECTURES)))
        raise TargetError(f"{name}: the machine is '{told[:40]}', but edgekit knows {known}")
    # A tree of files has no uname.
    for block in read_blocks(dump):
        if "vendor_id" in block:
            return "x86_64"
        if "isa" in block and block["isa"].startswith("rv64"):
            return "riscv64"
        if "cpu architecture" in block:
            return "aarch64" if "asimd" in block.get("features", "").split() else "arm"
    raise TargetError(
        f"{name}: the dump tells no architecture: neither uname nor /proc/cpuinfo is there"
    )


def _read_model(dump: Dump) -> str:
    if model := dump.text(f"{DEVICE_TREE}/model"):
        return _one_line(model)
    parts = [dump.text(f"{DMI}/{name}") for name in ("sys_vendor", "product_name")]
    return _one_line(" ".join(part for part in parts if part))


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:120]


def _read_os(dump: Dump) -> str:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        for line in dump.files.get(path, "").splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "PRETTY_NAME":
                try:
                    words = shlex.split(value)
                except ValueError:
                    words = [value]
                return _one_line(" ".join(words))
    return ""


def _read_libc(dump: Dump) -> str:
    if found := re.search(r"glibc\s+([0-9.]+)", dump.commands.get("getconf GNU_LIBC_VERSION", "")):
        return f"glibc {found.group(1)}"
    for words, printed in dump.commands.items():
        if "ld-musl-" in words and (found := re.search(r"Version\s+([0-9.]+)", printed)):
            return f"musl {found.group(1)}"
    names = [path.rsplit("/", 1)[1] for path in dump.present]
    if any(name.startswith("ld-musl-") for name in names):
        return "musl"
    return "glibc" if "libc.so.6" in names else ""


def _find_emulation(dump: Dump, architecture: str) -> str:
    """Returns what emulates the instructions, "" where nothing says so.

    qemu's `virt` boards name themselves in the device tree; a virtual machine on a processor of the same family may be
    one too, and is taken for emulated as well: neither is a board. On x86, where virtual machines are common, KVM shows
    its clock. qemu's user emulator shows programs of one processor the /proc/cpuinfo of another.
    """
    compatible = (dump.text(f"{DEVICE_TREE}/compatible") or "").split()
    for word in compatible:
        if word in ("linux,dummy-virt", "riscv-virtio", "qemu,virt") or word.startswith("qemu"):
            return f"qemu, {DEVICE_TREE}/compatible is {word}"
    if any(is_foreign(block, architecture) for block in read_blocks(dump)):
        return f"qemu's user emulator, /proc/cpuinfo is another processor's than {architecture}"
    vendor = dump.text(f"{DMI}/sys_vendor") or ""
    clocks = dump.text("/sys/devices/system/clocksource/clocksource0/available_clocksource") or ""
    if "QEMU" in vendor and "kvm-clock" not in clocks:
        return f"qemu, {DMI}/sys_vendor is {_one_line(vendor)}"
    if any("QEMU TCG" in block.get("model name", "") for block in read_blocks(dump)):
        return "qemu, /proc/cpuinfo names its TCG"
    return ""


def _find_virtual(dump: Dump) -> str:
    if kind := dump.text("/sys/hypervisor/type"):
        return f"/sys/hypervisor/type is {_one_line(kind)}"
    if found := dump.text(f"{DEVICE_TREE}/hypervisor/compatible"):
        return f"the device tree names a hypervisor, {_one_line(found)}"
    if any("hypervisor" in block.get("flags", "").split() for block in read_blocks(dump)):
        return "/proc/cpuinfo names a hypervisor"
    return ""
