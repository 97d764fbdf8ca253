"""Which cores a device has: their names, what they can do, and which of them are the fast ones."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekit.targets.probe.dump import Dump

CPUINFO = "/proc/cpuinfo"
# Implementer and part of the register MIDR_EL1: Linux, arch/arm64/include/asm/cputype.h and the same of arch/arm.
_PARTS = {
    (0x41, 0xC05): "Cortex-A5",
    (0x41, 0xC07): "Cortex-A7",
    (0x41, 0xC08): "Cortex-A8",
    (0x41, 0xC09): "Cortex-A9",
    (0x41, 0xC0D): "Cortex-A12",
    (0x41, 0xC0E): "Cortex-A17",
    (0x41, 0xC0F): "Cortex-A15",
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD0E): "Cortex-A76AE",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD44): "Cortex-X1",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD47): "Cortex-A710",
    (0x41, 0xD48): "Cortex-X2",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4B): "Cortex-A78C",
    (0x41, 0xD4C): "Cortex-X1C",
    (0x41, 0xD4D): "Cortex-A715",
    (0x41, 0xD4E): "Cortex-X3",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD80): "Cortex-A520",
    (0x41, 0xD81): "Cortex-A720",
    (0x41, 0xD82): "Cortex-X4",
    (0x4E, 0x000): "Denver",
    (0x4E, 0x003): "Denver 2",
    (0x4E, 0x004): "Carmel",
    (0x48, 0xD01): "TSV110",
    (0x46, 0x001): "A64FX",
}
# Names of AT_HWCAP's and AT_HWCAP2's bits, of those that kernels use: Linux, arch/arm64/include/uapi/asm/hwcap.h.
_HWCAP = {1: "asimd", 7: "crc32", 8: "atomics", 9: "fphp", 10: "asimdhp", 20: "asimddp", 22: "sve"}
_HWCAP2 = {1: "sve2", 13: "i8mm", 14: "bf16"}
# A core of at least this share of the strongest one's capacity is worth a thread of its own: all threads wait for the
# slowest. Clocks say less than capacities, so that they must be nearly alike.
_STRONG_CAPACITY = 0.6
_STRONG_CLOCK = 0.9


@dataclass(frozen=True)
class Core:
    """One core.

    Attributes:
        number: As Linux numbers it.
        name: Of its design, "" where nothing tells.
        features: As /proc/cpuinfo names them.
        clock_khz: Its highest clock, None where the kernel has no cpufreq for it.
        capacity: What Linux takes it for beside the others, 1024 being the strongest.
        sibling: Whether it is a further thread of a core with a lower number.
    """

    number: int
    name: str
    features: frozenset[str]
    clock_khz: int | None = None
    capacity: int | None = None
    sibling: bool = False


@dataclass(frozen=True)
class Kind:
    """Cores that are alike.

    Attributes:
        cores: Their numbers.
        name, clock_khz, capacity: As in `Core`.
        siblings: Those of them that are further threads of others.
    """

    cores: tuple[int, ...]
    name: str
    clock_khz: int | None
    capacity: int | None
    siblings: frozenset[int] = frozenset()

    def __str__(self) -> str:
        clock = f", {self.clock_khz // 1000} MHz" if self.clock_khz else ""
        return f"{format_numbers(self.cores)}: {self.name or 'unknown'}{clock}"


def format_numbers(numbers: Sequence[int]) -> str:
    """Returns numbers as Linux lists them: "0-3,6"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


def read_blocks(dump: Dump) -> list[dict[str, str]]:
    """Returns the keys and values of each block of /proc/cpuinfo, keys in lower case."""
    blocks = []
    for block in re.split(r"\n\s*\n", dump.files.get(CPUINFO, "")):
        pairs = (line.split(":", 1) for line in block.splitlines() if ":" in line)
        if found := {key.strip().lower(): value.strip() for key, value in pairs}:
            blocks.append(found)
    return blocks


def read_cores(dump: Dump, architecture: str) -> list[Core]:
    """Returns every core that /proc/cpuinfo or /sys names, in order of their numbers."""
    blocks: dict[int, dict[str, str]] = {}
    shared: dict[str, str] = {}
    for block in read_blocks(dump):
        told = block.get("processor", "")
        if re.fullmatch(r"[0-9]{1,4}", told):
            blocks[int(told)] = block
        else:
            shared |= block
    numbers = sorted(blocks.keys() | set(dump.list_cpus()))
    hwcap = _read_hwcap(dump) if architecture == "aarch64" else frozenset()
    cores = []
    for number in numbers:
        folder = f"/sys/devices/system/cpu/cpu{number}"
        block = {**shared, **blocks.get(number, {})}
        features = _read_features(block, architecture)
        cores.append(
            Core(
                number,
                _name_core(
                    {} if is_foreign(block, architecture) else block,
                    dump.text(f"{folder}/regs/identification/midr_el1"),
                ),
                features & hwcap if features and hwcap else features | hwcap,
                dump.positive(f"{folder}/cpufreq/cpuinfo_max_freq"),
                dump.positive(f"{folder}/cpu_capacity"),
                _is_sibling(dump.text(f"{folder}/topology/thread_siblings_list"), number),
            )
        )
    return cores


def is_foreign(block: Mapping[str, str], architecture: str) -> bool:
    """Returns whether a block of /proc/cpuinfo is of an x86 processor, though programs see ``architecture``."""
    return "vendor_id" in block and architecture not in ("x86_64", "i686")


def _is_sibling(siblings: str | None, number: int) -> bool:
    first = re.match(r"[0-9]{1,5}", siblings or "")
    return first is not None and int(first.group()) < number


def _read_features(block: Mapping[str, str], architecture: str) -> frozenset[str]:
    """Returns the words after Features (Arm) or flags (x86), or the extensions of RISC-V's isa."""
    if architecture.startswith("riscv"):
        base, *named = block.get("isa", "").lower().split("_")
        return frozenset({*re.sub(r"^rv(32|64)", "", base), *named} - {""})
    key = "flags" if architecture == "x86_64" else "features"
    return frozenset(block.get(key, "").split())


def _name_core(block: Mapping[str, str], midr: str | None) -> str:
    """Returns the design's name from /proc/cpuinfo, else from the register itself."""
    implementer, part = (_parse_hex(block.get(key)) for key in ("cpu implementer", "cpu part"))
    if implementer is None or part is None:
        if (value := _parse_hex(midr)) is not None:
            implementer, part = value >> 24 & 0xFF, value >> 4 & 0xFFF
        else:
            return block.get("model name") or block.get("uarch") or ""
    return _PARTS.get((implementer, part), f"implementer {implementer:#04x} part {part:#05x}")


def _parse_hex(text: str | None) -> int | None:
    return int(text, 16) if text and re.fullmatch(r"0x[0-9a-fA-F]{1,16}", text) else None


def _read_hwcap(dump: Dump) -> frozenset[str]:
    """Returns what the kernel tells 64-bit programs that they may use; empty where it was not dumped."""
    text = dump.commands.get("od /proc/self/auxv", "")
    if not re.fullmatch(r"(\s*[0-9a-f]{2})*\s*", text):
        return frozenset()
    data = bytes.fromhex("".join(text.split()))
    words = [
        int.from_bytes(data[at : at + 8], "little")
        for at in range(0, len(data) - len(data) % 16, 8)
    ]
    found = dict(zip(words[::2], words[1::2], strict=True))
    # AT_PAGESZ tells that the words are of 8 bytes: a 32-bit program's bits are others.
    if found.get(6) not in (4096, 16384, 65536):
        return frozenset()
    bits = ((found.get(16, 0), _HWCAP), (found.get(26, 0), _HWCAP2))
    return frozenset(
        name for value, names in bits for bit, name in names.items() if value >> bit & 1
    )


def group_cores(cores: Sequence[Core]) -> list[Kind]:
    """Returns the kinds of cores, the strongest first; those that nothing sets apart are one."""
    groups: dict[tuple[str, int | None, int | None], list[int]] = {}
    for core in cores:
        groups.setdefault((core.name, core.clock_khz, core.capacity), []).append(core.number)
    siblings = frozenset(core.number for core in cores if core.sibling)
    kinds = [Kind(tuple(group), *key, siblings & set(group)) for key, group in groups.items()]
    return sorted(
        kinds, key=lambda kind: (-(kind.capacity or 0), -(kind.clock_khz or 0), kind.cores)
    )


def find_strong(kinds: Sequence[Kind]) -> tuple[int, ...] | None:
    """Returns the cores that threads belong on, the strongest first.

    Returns:
        Empty, where all cores are alike; None where they differ and nothing says which are stronger.
    """
    if len(kinds) < 2:
        return ()
    for score, share in (
        ([kind.capacity for kind in kinds], _STRONG_CAPACITY),
        ([kind.clock_khz for kind in kinds], _STRONG_CLOCK),
    ):
        known = [value for value in score if value]
        if len(known) < len(kinds) or min(known) == max(known):
            continue
        strong = [
            kind for kind, value in zip(kinds, known, strict=True) if value >= share * max(known)
        ]
        if len(strong) == len(kinds):
            return ()
        return tuple(core for kind in strong for core in kind.cores if core not in kind.siblings)
    return () if len({kind.name for kind in kinds}) == 1 else None
