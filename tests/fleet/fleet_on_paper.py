"""A fleet that is only counted: what the rollout asks of devices, without any."""

import threading
from dataclasses import dataclass, field

from edgekit.delivery.fleet.devices import FleetDevice
from edgekit.delivery.fleet.journal import DeviceOutcome, Entry
from edgekit.targets.errors import DeviceError


def make_devices(count: int) -> list[FleetDevice]:
    return [FleetDevice(f"d{number:02}", f"ssh://d{number:02}", "rpi4") for number in range(count)]


class PowerCutError(BaseException):
    """The rollout's own machine goes off."""


@dataclass
class CountedInstaller:
    """Notes what it is asked for.

    Attributes:
        broken: Devices that refuse the bundle.
        ill: Devices that take it, and are not well afterwards.
        dies_at: The install at which the rollout's machine goes off.
        installs, rechecks, backs: Names in the order of the calls.
        most: How many installs ran at a time.
    """

    broken: set[str] = field(default_factory=set)
    ill: set[str] = field(default_factory=set)
    dies_at: int | None = None
    installs: list[str] = field(default_factory=list)
    rechecks: list[str] = field(default_factory=list)
    backs: list[str] = field(default_factory=list)
    most: int = 0
    pause: threading.Event | None = None
    _running: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def install(self, device: FleetDevice) -> Entry:
        with self._lock:
            if self.dies_at == len(self.installs):
                raise PowerCutError
            self.installs.append(device.name)
            self._running += 1
            self.most = max(self.most, self._running)
        if self.pause is not None:
            self.pause.wait(5)
        with self._lock:
            self._running -= 1
        if device.name in self.broken:
            raise DeviceError("the disk is full")
        return Entry(DeviceOutcome.UPDATED, "rpi4", "b", 2, "ab" * 32)

    def recheck(self, device: FleetDevice) -> None:
        with self._lock:
            self.rechecks.append(device.name)
        if device.name in self.ill:
            raise DeviceError("it answers no more")

    def go_back(self, device: FleetDevice, why: str) -> None:
        with self._lock:
            self.backs.append(device.name)
