"""The rollout: stage by stage through a fleet, several devices at a time, until all are updated or too many failed."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from types import FrameType
from typing import Any, Protocol, TypeVar

from edgekit.delivery.fleet.devices import FleetDevice
from edgekit.delivery.fleet.journal import DeviceOutcome, Entry, Journal, Outcome
from edgekit.delivery.fleet.strategy import Strategy
from edgekit.targets.errors import EdgekitError

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Installer(Protocol):
    """What a rollout does with one device. Each may be called for several devices at a time."""

    def install(self, device: FleetDevice) -> Entry:
        """Brings a device its bundle, which runs there when this returns.

        Raises:
            EdgekitError: It does not, and the device runs what it ran before.
        """

    def recheck(self, device: FleetDevice) -> None:
        """Looks whether an updated device still runs its bundle and is well.

        Raises:
            EdgekitError: It is not.
        """

    def go_back(self, device: FleetDevice, why: str) -> None:
        """Lets a device run what it ran before.

        Raises:
            EdgekitError: It does not.
        """


@dataclass(frozen=True)
class Event:
    """Something that a rollout tells while it runs.

    Attributes:
        kind: "stage", "wait", "device", "abort" or "stop".
        text: In words.
        device: Whose it is.
        done: Devices that are updated.
        total: Devices that there are.
    """

    kind: str
    text: str
    device: str | None
    done: int
    total: int


@dataclass(frozen=True)
class RolloutResult:
    """How a rollout ended.

    Attributes:
        outcome: DONE when all devices were tried, ABORTED by the rule, or STOPPED by a person or at a last stage that
            is less than the fleet.
        entries: What became of each device.
        reason: Why it was aborted.
        interrupted: Whether a person stopped it.
    """

    outcome: Outcome
    entries: Mapping[str, Entry]
    reason: str | None = None
    interrupted: bool = False

    def count(self, state: DeviceOutcome) -> int:
        """Returns how many devices are in a state."""
        return sum(entry.state == state for entry in self.entries.values())

    def to_dict(self) -> dict[str, Any]:
        """Returns what JSON holds."""
        return {
            "outcome": self.outcome,
            "reason": self.reason,
            "devices": {name: asdict(entry) for name, entry in self.entries.items()},
        }


class Rollout:
    """One run over a fleet; `run` may be called once."""

    def __init__(
        self,
        devices: Sequence[FleetDevice],
        journal: Journal,
        installer: Installer,
        strategy: Strategy,
        tell: Callable[[Event], None] = lambda event: None,
    ) -> None:
        """Prepares a rollout.

        Args:
            devices: The fleet. Boards take turns, so that canaries are of as many kinds as can be.
            journal: Open; devices that it says to be updated are not touched.
            installer: Does the work on a device.
            strategy: In which steps.
            tell: Is told what happens, in the thread that calls `run`.
        """
        self._devices = mix_boards(devices)
        self._journal = journal
        self._installer = installer
        self._strategy = strategy
        self._tell = tell
        self._stop = threading.Event()
        self._abort: str | None = None

    def run(self) -> RolloutResult:
        """Goes through the fleet.

        Ctrl-C or SIGTERM: no device is begun any more, those that are begun are finished. A second one ends at once,
        which harms no device: it runs what it ran before, or the new bundle.
        """
        self._journal.begin(device.name for device in self._devices)
        ends = self._strategy.cut(len(self._devices))
        with self._stop_on_signals():
            for number, end in enumerate(ends):
                if not self._run_stage(number, end, len(ends)):
                    break
        if self._abort:
            outcome = Outcome.ABORTED
        elif self._stop.is_set():
            outcome = Outcome.STOPPED
        else:
            outcome = Outcome.DONE if ends and ends[-1] == len(self._devices) else Outcome.STOPPED
        self._journal.finish(outcome)
        names = [device.name for device in self._devices]
        entries = {name: self._journal.entries[name] for name in names}
        return RolloutResult(outcome, entries, self._abort, self._stop.is_set())

    def _run_stage(self, number: int, end: int, count: int) -> bool:
        """Returns whether the next stage may begin."""
        waiting = [
            device
            for device in self._devices[:end]
            if self._journal.entries[device.name].state == DeviceOutcome.PENDING
        ]
        if not waiting and self._journal.settled >= end:
            return True
        is_canary = number == 0 and self._strategy.canary > 0
        title = "canary" if is_canary else f"to {end} of {len(self._devices)} devices"
        self._say("stage", f"stage {number + 1} of {count}, {title}: {len(waiting)} to update")
        for device, entry in self._map(self._install, waiting):
            self._take(device, entry, is_canary)
        if self._abort or self._stop.is_set():
            return False
        updated = [device for device in self._devices if self._is_updated(device)]
        if self._strategy.wait_s and updated:
            self._say("wait", f"waiting for {self._strategy.wait_s:g} s")
            self._stop.wait(self._strategy.wait_s)
        for device, failure in self._map(self._recheck, updated):
            if failure is not None:
                self._take(device, failure, is_canary)
        if self._abort or self._stop.is_set():
            return False
        self._journal.settle(end)
        return True

    def _install(self, device: FleetDevice) -> Entry:
        try:
            return self._installer.install(device)
        except (EdgekitError, OSError) as error:
            return Entry(DeviceOutcome.FAILED, device.board, detail=str(error))

    def _recheck(self, device: FleetDevice) -> Entry | None:
        try:
            self._installer.recheck(device)
        except (EdgekitError, OSError) as error:
            entry = self._journal.entries[device.name]
            return replace(
                entry,
                state=DeviceOutcome.FAILED,
                detail=f"not well any more: {error}{self._take_back(device, str(error))}",
            )
        return None

    def _take_back(self, device: FleetDevice, why: str) -> str:
        try:
            self._installer.go_back(device, why)
        except (EdgekitError, OSError) as error:
            return f"; and it did not go back: {error}"
        return "; taken back"

    def _take(self, device: FleetDevice, entry: Entry, is_canary: bool) -> None:
        """Writes down and tells what became of a device, and looks at the rule."""
        self._journal.record(device.name, entry)
        words = f"{entry.state}: {entry.detail}" if entry.detail else entry.state
        self._say("device", f"{device.name} {words}", device.name)
        if entry.state != DeviceOutcome.FAILED or self._abort:
            return
        failures = sum(
            self._journal.entries[item.name].state == DeviceOutcome.FAILED for item in self._devices
        )
        if is_canary:
            self._abort = f"canary {device.name} failed"
        elif self._strategy.is_exceeded(failures, len(self._devices)):
            self._abort = (
                f"{failures} of {len(self._devices)} devices failed, and no more than "
                f"{self._strategy.max_failures} may"
            )
        if self._abort:
            self._say("abort", f"aborted: {self._abort}; devices that are begun are finished")

    def _map(
        self, work: Callable[[FleetDevice], T], devices: Sequence[FleetDevice]
    ) -> Iterator[tuple[FleetDevice, T]]:
        """Yields what `work` makes of each device as it comes; begins no more after an abort or a stop."""
        results: queue.SimpleQueue[tuple[FleetDevice, T | BaseException]] = queue.SimpleQueue()
        coming = list(devices)
        running = 0

        def do(device: FleetDevice) -> None:
            try:
                results.put((device, work(device)))
            except BaseException as error:
                results.put((device, error))

        while True:
            while coming and running < self._strategy.parallel:
                if self._abort or self._stop.is_set():
                    break
                device = coming.pop(0)
                # A second Ctrl-C does not wait for these.
                threading.Thread(target=do, args=(device,), daemon=True).start()
                running += 1
            if not running:
                return
            device, result = results.get()
            running -= 1
            if isinstance(result, BaseException):
                raise result
            yield device, result

    @contextmanager
    def _stop_on_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            if self._stop.is_set():
                raise KeyboardInterrupt
            self._stop.set()
            self._say("stop", "stopping: devices that are begun are finished; once more to end now")

        before = {number: signal.signal(number, stop) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _is_updated(self, device: FleetDevice) -> bool:
        return self._journal.entries[device.name].state == DeviceOutcome.UPDATED

    def _say(self, kind: str, text: str, device: str | None = None) -> None:
        done = sum(self._is_updated(item) for item in self._devices)
        self._tell(Event(kind, text, device, done, len(self._devices)))


def mix_boards(devices: Sequence[FleetDevice]) -> list[FleetDevice]:
    """Returns the devices so that boards take turns, each board's in their order."""
    rows: dict[str | None, list[FleetDevice]] = {}
    for device in devices:
        rows.setdefault(device.board, []).append(device)
    longest = max(map(len, rows.values()), default=0)
    return [row[turn] for turn in range(longest) for row in rows.values() if turn < len(row)]
