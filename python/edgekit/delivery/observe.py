"""What a device's sensors say of the conditions of a measurement: heat, clocks, throttling, load."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from edgekit.delivery.measurement import Sensor
from edgekit.delivery.sampling import Samples
from edgekit.targets.probe.cores import format_numbers
from edgekit.targets.probe.dump import Dump
from edgekit.targets.probe.make_profile import Probed
from edgekit.targets.probe.sensors import Rail

_CPU = "/sys/devices/system/cpu"
_THERMAL = "/sys/class/thermal"
_LOAD = "/proc/loadavg"
# The firmware of a Raspberry Pi; the script asks it where it is there.
_FIRMWARE = "vcgencmd"
# Bits of `vcgencmd get_throttled` (Raspberry Pi documentation, vcgencmd).
_THROTTLED = {
    0: "under-voltage now",
    1: "the Arm clock is capped now",
    2: "throttled now",
    3: "the soft temperature limit is active now",
    16: "under-voltage since it started",
    17: "the Arm clock was capped since it started",
    18: "throttled since it started",
    19: "the soft temperature limit was active since it started",
}
# Of the highest clock, while the device was busy: no core that ran faster is worth a word.
_SLOW = 0.95


def list_watched(dump: Dump, rails: Sequence[Rail]) -> tuple[list[str], list[str]]:
    """Returns the files to read while a program runs, and those to read before and after."""
    watch = [path for rail in rails for path in (rail.path, rail.volts) if path]
    watch += dump.match(f"{_THERMAL}/thermal_zone[0-9]*/temp")
    watch += dump.match(f"{_CPU}/cpu[0-9]*/cpufreq/scaling_cur_freq")
    coolers = dump.match(f"{_THERMAL}/cooling_device[0-9]*/cur_state")
    limits = dump.match(f"{_CPU}/cpu[0-9]*/cpufreq/scaling_max_freq")
    return watch, [*watch, *coolers, *limits, _LOAD]


def describe_device(dump: Dump, probed: Probed) -> dict[str, Any]:
    """Returns the facts by which a device is known again."""
    profile = probed.profile
    return {
        "title": profile.title,
        "like": probed.like,
        "cpu": profile.cpu.model,
        "architecture": profile.system.architecture,
        "cores": profile.cpu.cores,
        "clock_mhz": profile.cpu.clock_mhz,
        "memory_mib": profile.memory.largest_mib,
        "os": probed.device.os,
        "kernel": f"Linux {release}" if (release := _read_release(dump)) else "",
        "compatible": list(probed.device.compatible),
        "virtual": probed.device.virtual,
    }


def _read_release(dump: Dump) -> str:
    if told := dump.commands.get("uname -r", "").strip():
        return told
    found = re.match(r"Linux version (\S+)", dump.text("/proc/version") or "")
    return found.group(1) if found else ""


def read_temperatures(dump: Dump, samples: Samples) -> list[Sensor]:
    """Returns the thermal zones in degrees Celsius."""
    return [
        _read_sensor(dump.text(path.removesuffix("temp") + "type") or path, path, samples, 1000)
        for path in samples.files
        if path.startswith(_THERMAL)
    ]


def read_clocks(samples: Samples) -> list[Sensor]:
    """Returns the cores' clocks in MHz."""
    return [
        _read_sensor(path.split("/")[5], path, samples, 1000)
        for path in samples.files
        if path.endswith("/scaling_cur_freq")
    ]


def _read_sensor(name: str, path: str, samples: Samples, divisor: int) -> Sensor:
    values = [value / divisor for _, value in samples.list_values(path, samples.run)]
    return Sensor(
        name=name,
        before=_read_note(samples.before.get(path), divisor),
        after=_read_note(samples.after.get(path), divisor),
        lowest=min(values, default=None),
        highest=max(values, default=None),
    )


def _read_note(text: str | None, divisor: int) -> float | None:
    return int(text) / divisor if text and re.fullmatch(r"-?[0-9]{1,15}", text.strip()) else None


def find_throttling(
    dump: Dump, samples: Samples, sensors: Sequence[Sensor], throttle_c: float | None
) -> list[str]:
    """Returns the signs that the device was slowed down: its firmware's, coolers', limits of clocks, clocks and heat.

    Args:
        dump: What the device told before.
        samples: What was read while it ran.
        sensors: Its temperatures and clocks.
        throttle_c: Degrees Celsius from which on the kernel slows it down, None where that is not known.
    """
    signs = _read_firmware(samples)
    cores = {path.split("/")[5] for path in samples.files if path.endswith("/scaling_cur_freq")}
    for sensor in sensors:
        if sensor.name not in cores and throttle_c and (sensor.highest or 0) >= throttle_c:
            signs.append(
                f"{sensor.name} at {sensor.highest:.0f} degrees: {throttle_c:.0f} are too many"
            )
    for path, after in samples.after.items():
        if path.endswith("/cur_state") and after.strip() not in ("", "0"):
            kind = dump.text(path.removesuffix("cur_state") + "type") or "cooler"
            if re.search(r"cpu|processor", kind, re.IGNORECASE):
                signs.append(f"{kind} slows it down: state {after.strip()} ({path})")
    limited: dict[str, list[int]] = {}
    for path, after in samples.after.items():
        if not path.endswith("/scaling_max_freq"):
            continue
        highest = dump.positive(path.replace("scaling_max_freq", "cpuinfo_max_freq"))
        limit = _read_note(after, 1)
        if highest and limit and limit < highest:
            words = f"limited to {limit / 1000:.0f} MHz of {highest / 1000:.0f}"
            limited.setdefault(words, []).append(int(re.sub(r"\D", "", path.split("/")[5])))
    signs += [f"cores {format_numbers(cpus)} are {words}" for words, cpus in limited.items()]
    fastest = max((item.highest or 0 for item in sensors if item.name in cores), default=0)
    highest_mhz = max(
        (
            dump.positive(path) or 0
            for path in dump.match(f"{_CPU}/cpu[0-9]*/cpufreq/cpuinfo_max_freq")
        ),
        default=0,
    )
    if 0 < fastest < _SLOW * highest_mhz / 1000:
        signs.append(
            f"no core ran above {fastest:.0f} MHz, {highest_mhz / 1000:.0f} are what they can"
        )
    return signs


def _read_firmware(samples: Samples) -> list[str]:
    """Returns what a Raspberry Pi's firmware says; what it says of the past only if that came about in the run."""
    before, after = (
        int(found.group(1), 16)
        if (found := re.search(r"throttled=0x([0-9a-fA-F]{1,8})", notes.get(_FIRMWARE, "")))
        else 0
        for notes in (samples.before, samples.after)
    )
    return [
        f"{_FIRMWARE}: {words}"
        for bit, words in _THROTTLED.items()
        if after >> bit & 1 and (bit < 16 or not before >> bit & 1)
    ]


def describe_conditions(dump: Dump, samples: Samples) -> dict[str, str]:
    """Returns what else was so while it was measured."""
    governors = {
        dump.text(path) or "" for path in dump.match(f"{_CPU}/cpu[0-9]*/cpufreq/scaling_governor")
    }
    seconds = samples.run[-1].seconds - samples.run[0].seconds
    conditions = {
        "governor": ", ".join(sorted(governors)) or "not told",
        "load_before": samples.before.get(_LOAD, "not told"),
        "run_seconds": f"{seconds:.2f}",
        "readings": f"{len(samples.run)} while it ran, by a shell on the device",
    }
    if samples.idle:
        idle = samples.idle[-1].seconds - samples.idle[0].seconds
        conditions["idle"] = f"power before it, over {idle:.1f} s, is subtracted"
    return conditions
