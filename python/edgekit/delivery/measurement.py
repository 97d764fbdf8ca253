"""What was measured on a device, with the conditions under which it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgekit.delivery.sampling import Energy

SCHEMA = 1
EMULATED = "emulated: instruction emulation, no time of a board"


@dataclass(frozen=True)
class Figures:
    """Wall-clock time of an inference.

    Attributes:
        median_ms, min_ms, p90_ms: Over the runs; `p90_ms` is what 90 % of them stay within.
        first_ms: Of the first run, which none of these count.
        load_ms: From the program's start to a session.
        runs: How many.
        threads, running_threads: That were asked for, and that ran: no more than there are cores.
    """

    median_ms: float
    min_ms: float
    p90_ms: float
    first_ms: float
    load_ms: float
    runs: int
    threads: int
    running_threads: int


@dataclass(frozen=True)
class MeasuredLayer:
    """One operator.

    Attributes:
        op, kind, kernel: As in the plan.
        median_us: Its time.
        products, values, bytes: As in `edgekit.costs.plan_work.Work`.
    """

    op: str
    kind: str
    kernel: str
    median_us: float
    products: int
    values: int
    bytes: int


@dataclass(frozen=True)
class Sensor:
    """A temperature or clock.

    Attributes:
        name: Of the sensor, or the cores.
        before, after: Beside the run.
        lowest, highest: While it ran.
    """

    name: str
    before: float | None
    after: float | None
    lowest: float | None
    highest: float | None


@dataclass(frozen=True)
class Measurement:
    """What a bundle did on a device.

    Attributes:
        emulated: What emulates the device's processor, "" for a real one. Then there are no times.
        device: What it says of itself.
        bundle: Which network: board, release, digests of plan and manifest, instruction set.
        address: Where it was reached.
        taken: UTC on the machine that asked, as ISO 8601.
        edgekit: Version of that machine's edgekit.
        answers: How the device's layers compare with the golden ones: "equal", or which is the first that differs.
        peak_bytes: Most memory that the program held, None where the device does not tell.
        latency, layers, energy, temperatures, clocks: What was measured; empty on an emulated device.
        throttling: Signs that the device was slowed down, in words.
        conditions: Under which it was: governor, load, how it was sampled.
        notes: What a reader must know.
    """

    emulated: str
    device: Mapping[str, Any]
    bundle: Mapping[str, Any]
    address: str
    taken: str
    edgekit: str
    answers: str
    peak_bytes: int | None
    latency: Figures | None = None
    layers: tuple[MeasuredLayer, ...] = ()
    energy: tuple[Energy, ...] = ()
    temperatures: tuple[Sensor, ...] = ()
    clocks: tuple[Sensor, ...] = ()
    throttling: tuple[str, ...] = ()
    conditions: Mapping[str, str] | None = None
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Where it was measured, to be shown beside every figure."""
        if self.emulated:
            return f"{EMULATED} ({self.emulated})"
        title, cpu = self.device["title"], self.device["cpu"]
        kind = "a virtual machine" if self.device["virtual"] else ""
        facts = (title, "" if cpu in title else cpu, self.device["os"], self.device["kernel"], kind)
        return f"measured on {', '.join(filter(None, facts))}"

    def to_dict(self) -> dict[str, Any]:
        """Returns everything in a form that JSON can hold."""
        return {"schema": SCHEMA, "label": self.label, **asdict(self)}
