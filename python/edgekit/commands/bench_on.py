"""`edgekit bench BUNDLE --on DEVICE`: what was measured there, for a reader."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.commands.console import err, out, print_json
from edgekit.commands.keys import ask_secret_key
from edgekit.targets.errors import EdgekitError

if TYPE_CHECKING:
    from edgekit.delivery.measurement import Measurement, Sensor
    from edgekit.targets.sections import Speed

# Layers shown: the slowest; --json has all.
_SHOWN = 10


def bench_on(
    bundle: Path,
    address: str,
    threads: int,
    seconds: float,
    profile: Path | None,
    sign_with: Path | None,
    as_json: bool,
) -> None:
    """Measures, keeps the record where a profile is given, and prints."""
    from edgekit.delivery.measure import benchmark_on
    from edgekit.delivery.measured import store

    if sign_with is not None and profile is None:
        raise EdgekitError("--sign-with signs the record that --store keeps: give both")
    key = ask_secret_key(sign_with) if sign_with else None
    with err.status("connecting") as status:
        measured = benchmark_on(
            bundle,
            address,
            threads=threads,
            seconds=seconds,
            tell=lambda words: status.update(words),
        )
    record, speed = (None, None) if profile is None else store(measured, profile, key)
    if as_json:
        print_json({**measured.to_dict(), "record": record and str(record)})
        return
    _print(measured)
    if record is not None and profile is not None:
        _say(f"kept in {record}{', signed' if key else ''}")
        _print_speed(profile, speed)


def _print(measured: Measurement) -> None:
    _say(measured.label)
    _say(f"answers: {measured.answers}")
    if measured.peak_bytes:
        _say(f"peak memory: {measured.peak_bytes / 1e6:.2f} MB")
    latency = measured.latency
    if latency is not None:
        threads = f"{latency.running_threads} thread{'' if latency.running_threads == 1 else 's'}"
        _say(
            f"latency: median {latency.median_ms:.3f} ms, 90 % within {latency.p90_ms:.3f} ms, least "
            f"{latency.min_ms:.3f} ms ({latency.runs} runs, {threads})"
        )
        _say(f"loading: {latency.load_ms:.2f} ms, first run {latency.first_ms:.2f} ms")
    for energy in measured.energy:
        _say(
            f"energy of an inference on {energy.rail}: {1e3 * energy.inference_j:.3g} mJ above idle "
            f"({1e3 * energy.gross_inference_j:.3g} mJ with it); {energy.run_w:.2f} W while it ran, "
            f"{energy.idle_w:.2f} W idle, which is subtracted; {energy.readings} readings"
        )
    for sensor in measured.temperatures:
        _say(f"{sensor.name}: {_range(sensor, 'degrees Celsius')}")
    for sensor in measured.clocks:
        _say(f"{sensor.name}: {_range(sensor, 'MHz')}")
    for sign in measured.throttling:
        _say(f"SLOWED DOWN: {sign}")
    for key, value in (measured.conditions or {}).items():
        _say(f"{key.replace('_', ' ')}: {value}")
    _print_layers(measured)
    for note in measured.notes:
        _say(f"NOTE: {note}")


def _range(sensor: Sensor, unit: str) -> str:
    def show(value: float | None) -> str:
        return "?" if value is None else f"{value:.4g}"

    return (
        f"{show(sensor.before)} before, {show(sensor.lowest)} to {show(sensor.highest)} while it ran, "
        f"{show(sensor.after)} {unit} after"
    )


def _print_layers(measured: Measurement) -> None:
    if not measured.layers:
        return
    from edgekit.report import make_table

    total = sum(layer.median_us for layer in measured.layers)
    slowest = sorted(measured.layers, key=lambda layer: -layer.median_us)[:_SHOWN]
    title = f"the slowest {len(slowest)} of {len(measured.layers)} layers"
    table = make_table(title, "layer", "kind", "time", "share", "products")
    for layer in slowest:
        share = layer.median_us / total if total else 0
        table.add_row(
            layer.op,
            layer.kind,
            f"{layer.median_us:.1f} us",
            f"{100 * share:.1f} %",
            f"{layer.products / 1e6:.2f} M" if layer.products else "",
        )
    out.print(table)


def _print_speed(profile: Path, speed: Speed | None) -> None:
    if speed is None:
        _say(f"{profile}: its speed stays as it was: this measurement says nothing of it")
        return
    _say(
        f"{profile}: [speed] is now {speed.int8_products:g} int8 and {speed.float_products:g} float32 products in a "
        "cycle; deploy goes by it"
    )


def _say(line: str) -> None:
    out.print(line, markup=False, highlight=False, soft_wrap=True)
