"""Measurements kept beside a profile: records, signed where a key is given, and the profile's speed that follows.

A profile `boards/pi.toml` has its records in `boards/measured/pi/`, one file a measurement.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from edgekit.bundles.minisign import PublicKey, SecretKey, check, read_signature, sign
from edgekit.costs.cost_model import MEASURED_ON, find_speed
from edgekit.delivery.measurement import SCHEMA, Measurement
from edgekit.targets.errors import SignatureError, TargetError
from edgekit.targets.probe.dump import natural_order
from edgekit.targets.profile import PROFILES_DIR, Profile, read_profile
from edgekit.targets.sections import Speed
from edgekit.targets.write_profile import replace_profile

_FOLDER = "measured"
_SIGNATURE = ".minisig"
_MATRICES = ("Conv", "FullyConnected", "MatMul", "ConvTranspose")
# Which layers tell which figure, by the products that they do in a cycle.
_KINDS = {
    "int8_products": _MATRICES,
    "int8_depthwise_products": ("DepthwiseConv",),
    "float_products": tuple(f"Float{kind}" for kind in _MATRICES),
    "float_depthwise_products": ("FloatDepthwiseConv",),
}
# Of layers that move less, the time is that of starting them.
_LEAST_BYTES = 16 << 10
_LEAST_VALUES = 4 << 10


def store(
    measurement: Measurement, profile: Path, key: SecretKey | None = None
) -> tuple[Path, Speed | None]:
    """Keeps a measurement beside a profile, and fits the profile's `[speed]` to all that were kept for its board.

    Args:
        measurement: Of a real device; one without times is kept, and changes no speed.
        profile: The user's own file.
        key: Signs the record, in minisign's format, beside it.

    Returns:
        The record's file, and the new speed, None where none could be fitted.

    Raises:
        TargetError: The profile is no valid one, one that ships with edgekit, or another board's.
        OSError: A file cannot be written.
        ToolError: The package `cryptography` is missing.
    """
    board = read_profile(profile)
    if profile.resolve().parent == PROFILES_DIR.resolve():
        raise TargetError(
            f"{profile}: a profile that ships with edgekit: copy it, or make one by `edgekit targets probe`"
        )
    told = measurement.device["architecture"]
    if told != board.system.architecture:
        raise TargetError(
            f"{profile}: a profile for {board.system.architecture}, but the device is {told}"
        )
    content = (json.dumps(measurement.to_dict(), indent=1) + "\n").encode()
    signature = None
    if key is not None:
        signature = sign(content, key, f"edgekit measurement on {board.name}").to_text()
    folder = profile.parent / _FOLDER / board.name
    folder.mkdir(parents=True, exist_ok=True)
    taken = re.sub(r"[^0-9TZ]", "", measurement.taken.replace("+00:00", "Z"))
    stem = f"{taken}-{measurement.bundle['plan_sha256'][:12]}"
    number = 1
    while (path := folder / f"{stem}-{number}.json").exists():
        number += 1
    path.write_bytes(content)
    if signature is not None:
        path.with_name(path.name + _SIGNATURE).write_text(signature, encoding="utf-8")
    speed = fit_speed(list_records(profile), board)
    if speed is not None:
        _write_speed(profile, speed)
    return path, speed


def list_records(profile: Path, key: PublicKey | None = None) -> list[dict[str, Any]]:
    """Returns the measurements kept beside a profile, the oldest first.

    Args:
        profile: Its file.
        key: Who must have signed them; by default signatures are not looked at.

    Raises:
        TargetError: One is no record.
        SignatureError: One is not signed by that key.
        OSError: One cannot be read.
    """
    records = []
    files = (profile.parent / _FOLDER / profile.stem).glob("*.json")
    for path in sorted(files, key=lambda file: natural_order(file.name)):
        content = path.read_bytes()
        if key is not None:
            signature = path.with_name(path.name + _SIGNATURE)
            if not signature.exists():
                raise SignatureError(f"{path}: not signed: {signature.name} is missing")
            check(content, read_signature(signature), key)
        records.append(_parse_record(path, content))
    return records


def _parse_record(path: Path, content: bytes) -> dict[str, Any]:
    try:
        record = json.loads(content)
        if record["schema"] != SCHEMA:
            raise ValueError(f"schema {record['schema']}")
        str(record["bundle"]["isa"]), str(record["taken"]), str(record["device"]["title"])
        for layer in record["layers"]:
            str(layer["kind"]), float(layer["median_us"])
            int(layer["products"]), int(layer["values"]), int(layer["bytes"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TargetError(
            f"{path}: no record of a measurement that this edgekit reads: {error}"
        ) from error
    assert isinstance(record, dict)
    return record


def fit_speed(records: Sequence[Mapping[str, Any]], profile: Profile) -> Speed | None:
    """Returns what a core of the board does in a cycle, by the times of measured layers.

    A figure is the one with which the modelled times of its layers sum up to the measured ones::

        rate = sum(products) / (sum(microseconds) * clock_mhz)

    of the newest record of each plan for the profile's instruction set that ran on one thread of a real processor.
    Bytes loaded come from layers without products, and are no fewer than any layer with products was seen to move. A
    figure that no layer tells stays as it is in the profile, or what the cost model takes for the instruction set.

    Returns:
        None, where no record is fit for it, or the profile does not say the clock.
    """
    clock = profile.cpu.clock_mhz
    newest: dict[str, Mapping[str, Any]] = {}
    for record in records:
        latency = record["latency"]
        if record["bundle"]["isa"] == profile.isa and latency and latency["threads"] == 1:
            newest[record["bundle"]["plan_sha256"]] = record
    layers = [layer for record in newest.values() for layer in record["layers"]]
    layers = [layer for layer in layers if layer["median_us"] > 0]
    if clock is None or not layers:
        return None
    figures = {key: _fit(layers, kinds, "products", clock) for key, kinds in _KINDS.items()}
    figures["quantized_values"] = _fit(
        [layer for layer in layers if layer["values"] >= _LEAST_VALUES],
        ("Quantize",),
        "values",
        clock,
    )
    figures["load_bytes"] = _fit_bytes(layers, clock)
    return _make_speed(figures, list(newest.values()), profile)


def _fit(
    layers: Sequence[Mapping[str, Any]], kinds: Sequence[str], what: str, clock_mhz: int
) -> tuple[float, int] | None:
    """Returns the figure and how many layers told it."""
    fitting = [layer for layer in layers if layer["kind"] in kinds and layer[what] > 0]
    if not fitting:
        return None
    microseconds = sum(layer["median_us"] for layer in fitting)
    return sum(layer[what] for layer in fitting) / (microseconds * clock_mhz), len(fitting)


def _fit_bytes(layers: Sequence[Mapping[str, Any]], clock_mhz: int) -> tuple[float, int] | None:
    large = [layer for layer in layers if layer["bytes"] >= _LEAST_BYTES]
    moving = [layer for layer in large if layer["products"] == 0]
    if not moving:
        return None
    microseconds = sum(layer["median_us"] for layer in moving)
    rate = sum(layer["bytes"] for layer in moving) / (microseconds * clock_mhz)
    seen = (
        layer["bytes"] / (layer["median_us"] * clock_mhz) for layer in large if layer["products"]
    )
    return max(rate, *seen, rate), len(moving)


def _make_speed(
    figures: Mapping[str, tuple[float, int] | None],
    records: Sequence[Mapping[str, Any]],
    profile: Profile,
) -> Speed | None:
    if not any(figures.values()):
        return None
    former = profile.speed
    stand_in = find_speed(profile.isa)
    plans = ", ".join(record["bundle"]["plan_sha256"][:12] for record in records)
    last = records[-1]
    where = (
        f"{MEASURED_ON}{last['device']['title']}, {last['taken'][:10]}, edgekit {last['edgekit']}"
    )
    values: dict[str, float] = {}
    source: dict[str, str] = {}
    for item in fields(Speed):
        if item.name == "source":
            continue
        found = figures[item.name]
        if found is not None:
            values[item.name] = float(f"{found[0]:.4g}")
            source[item.name] = f"{where}: {found[1]} layers of the plans {plans}"
        elif (kept := getattr(former, item.name)) is not None:
            values[item.name], source[item.name] = kept, former.source[item.name]
        else:
            values[item.name] = getattr(stand_in, item.name)
            source[item.name] = (
                f"no layer of this kind was measured: what is taken for {profile.isa}"
            )
    return Speed(**values, source=source)


def _write_speed(path: Path, speed: Speed) -> None:
    """Replaces the tables `[speed]` and `[speed.source]` of a profile, and nothing else.

    Raises:
        TargetError: The file says its speed in another form; it stays as it is.
    """
    kept: list[str] = []
    inside = False
    for line in path.read_text(encoding="utf-8").splitlines():
        if header := re.match(r"\s*\[+\s*([^\]]*?)\s*\]", line):
            inside = header.group(1).replace(" ", "") in ("speed", "speed.source")
        # A comment there may speak of the table behind.
        if not inside or line.lstrip().startswith("#"):
            kept.append(line)
    figures = {item.name: getattr(speed, item.name) for item in fields(Speed)}
    source = figures.pop("source")
    lines = ["[speed]", *(f"{key} = {value!r}" for key, value in figures.items())]
    lines += ["", "[speed.source]"]
    lines += [f"{key} = {json.dumps(text, ensure_ascii=False)}" for key, text in source.items()]
    text = "\n".join(kept).rstrip("\n") + "\n\n" + "\n".join(lines) + "\n"
    written = replace_profile(path, text)
    if written.speed != speed:
        raise TargetError(f"{path}: its speed was not written as it was measured")
