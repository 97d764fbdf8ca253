"""What a contest measured, and how it is shown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from edgekit import _native
from edgekit.agreement import Proportion
from edgekit.report import make_table
from edgekit.timing import Timing, describe_machine

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Noise above half of the signal's power is no answer, however fast it comes.
LEAST_SNR_DB = 3.0
# Share of a core, above which others decide who is fast.
MOST_DISTURBANCE = 0.2


@dataclass(frozen=True)
class Entry:
    """A contestant's part in a contest.

    Attributes:
        name: The contestant.
        ours: Whether it is edgekit's own runtime.
        form: "int8" or "float".
        version: Versions of its packages; "" where they are missing.
        reason: Why it takes no part, "" where it does.
        how: How its file was made.
        file_bytes: Size of what it loads.
        integer: How many operators compute on integers and how many there are, None where it can't be told.
        snr_db: Power of the float model's answers over that of the differences, in decibels, for the worst output;
            300 where they are equal.
        agreement: How often the largest element of an answer's last axis is at the same place as the float model's,
            None where the outputs are no scores.
        peak_bytes: Peak of resident memory with one thread, from before the runtime is imported to after the last
            run, above what the interpreter and the samples held.
        first_ms: Time to load the file and run it once, by number of threads.
        timings: Time of one inference by number of threads.
    """

    name: str
    ours: bool
    form: str
    version: str = ""
    reason: str = ""
    how: str = ""
    file_bytes: int = 0
    integer: tuple[int, int] | None = None
    snr_db: float | None = None
    agreement: Proportion | None = None
    peak_bytes: int | None = None
    first_ms: dict[int, float] = field(default_factory=dict)
    timings: dict[int, Timing] = field(default_factory=dict)

    @property
    def is_sane(self) -> bool:
        """Whether what it computes is an answer at all."""
        return self.snr_db is not None and self.snr_db >= LEAST_SNR_DB

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in a form that JSON can hold."""
        return {
            "name": self.name,
            "ours": self.ours,
            "form": self.form,
            "version": self.version,
            "reason": self.reason,
            "how": self.how,
            "file_bytes": self.file_bytes,
            "integer": self.integer,
            "snr_db": self.snr_db,
            "agreement": self.agreement and self.agreement.to_dict(),
            "peak_bytes": self.peak_bytes,
            "first_ms": self.first_ms,
            "timings": {threads: timing.to_dict() for threads, timing in self.timings.items()},
        }


@dataclass(frozen=True)
class Rounds:
    """The rounds in which everyone was timed with one number of threads.

    Attributes:
        counted: How many count: those in which others left the processors alone.
        total: How many there were.
        disturbance: Share of a core that other programs and a hypervisor took, in the median of those that count.
    """

    counted: int
    total: int
    disturbance: float

    @property
    def is_calm(self) -> bool:
        """Whether the figures may be quoted."""
        return self.disturbance <= MOST_DISTURBANCE

    def __str__(self) -> str:
        return (
            f"{self.counted} of {self.total} rounds count, "
            f"others took {100 * self.disturbance:.0f} % of a core"
            + ("" if self.is_calm else ": TOO BUSY TO QUOTE")
        )


@dataclass(frozen=True)
class Contest:
    """All contestants on one network, timed in the same rounds.

    Attributes:
        network: Its name.
        samples: Where the calibration samples came from.
        random_samples: Whether they are random numbers, so that accuracy says nothing.
        isa: Instruction set of edgekit's kernels.
        entries: In the order of the list of contestants.
        rounds: What was timed, by number of threads.
    """

    network: str
    samples: str
    random_samples: bool
    isa: str
    entries: tuple[Entry, ...]
    rounds: dict[int, Rounds] = field(default_factory=dict)

    @property
    def ours(self) -> Entry | None:
        """Our entry, None where it took no part."""
        return next((entry for entry in self.entries if entry.ours and not entry.reason), None)

    def find_fastest_peer(self, threads: int) -> Entry | None:
        """Returns the peer with the smallest median among those whose answers are sane."""
        peers = [
            entry
            for entry in self.entries
            if not entry.ours and threads in entry.timings and entry.is_sane
        ]
        return min(peers, key=lambda peer: peer.timings[threads].median_ms, default=None)

    def get_speed(self, threads: int) -> float | None:
        """Returns the fastest peer's median over ours: above 1, edgekit is faster."""
        ours, peer = self.ours, self.find_fastest_peer(threads)
        if ours is None or peer is None or not ours.is_sane or threads not in ours.timings:
            return None
        return peer.timings[threads].median_ms / ours.timings[threads].median_ms

    def to_dict(self) -> dict[str, Any]:
        """Returns everything in a form that JSON can hold."""
        counts = sorted({threads for entry in self.entries for threads in entry.timings})
        fastest = {threads: self.find_fastest_peer(threads) for threads in counts}
        return {
            "network": self.network,
            "samples": self.samples,
            "random_samples": self.random_samples,
            "isa": self.isa,
            "entries": [entry.to_dict() for entry in self.entries],
            "rounds": {threads: asdict(rounds) for threads, rounds in self.rounds.items()},
            "fastest_peer": {threads: peer and peer.name for threads, peer in fastest.items()},
            "speed": {threads: self.get_speed(threads) for threads in counts},
        }


def mean_speed(contests: Sequence[Contest], threads: int) -> float | None:
    """Returns the geometric mean of the speeds of the networks that edgekit runs, None where there is none."""
    speeds = [speed for contest in contests if (speed := contest.get_speed(threads)) is not None]
    return statistics.geometric_mean(speeds) if speeds else None


def make_record(contests: Sequence[Contest]) -> dict[str, Any]:
    """Returns contests and the machine that they were held on, in a form that JSON can hold."""
    machine = describe_machine()
    isas = [info.name for info in _native.isas() if info.supported]
    counts = sorted({threads for contest in contests for threads in contest.rounds})
    return {
        "measured_on": f"measured on {machine}; instruction sets: {', '.join(isas)}",
        "machine": machine.to_dict(),
        "instruction_sets": isas,
        "mean_speed": {threads: mean_speed(contests, threads) for threads in counts},
        "contests": [contest.to_dict() for contest in contests],
    }


def print_contest(console: Console, contest: Contest) -> None:
    """Prints a table for each number of threads, and who takes no part and why."""
    for threads in contest.rounds:
        console.print(make_contest_table(contest, threads))
    if contest.random_samples:
        console.print("SNR and answers are of random numbers and say little", highlight=False)
    for entry in contest.entries:
        if entry.reason:
            line = f"{entry.name}: not supported: {entry.reason}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def make_contest_table(contest: Contest, threads: int) -> Table:
    """Returns the entries of a contest that were timed, with their ratio to the fastest peer."""
    fastest = contest.find_fastest_peer(threads)
    base = fastest.timings[threads].median_ms if fastest else None
    words = "1 thread" if threads == 1 else f"{threads} threads"
    table = make_table(
        f"{contest.network}, {words}, edgekit with {contest.isa}; {contest.rounds[threads]}",
        *(
            "runtime",
            "median",
            "p90",
            "speed",
            "first",
            "memory",
            "file",
            "integer",
            "SNR",
            "same answer",
        ),
    )
    for entry in contest.entries:
        timing = entry.timings.get(threads)
        if timing is None:
            table.add_row(entry.name, "not supported")
            continue
        table.add_row(
            entry.name,
            f"{timing.median_ms:.3f} ms",
            f"{timing.high_ms:.3f} ms",
            "-" if base is None else f"{base / timing.median_ms:.2f} x",
            f"{entry.first_ms[threads]:.1f} ms",
            "-" if entry.peak_bytes is None else f"{entry.peak_bytes / 1e6:.1f} MB",
            f"{entry.file_bytes / 1e6:.2f} MB",
            "-" if entry.integer is None else "{}/{}".format(*entry.integer),
            _format_snr(entry),
            "-" if entry.agreement is None else f"{100 * entry.agreement.share:.1f} %",
        )
    return table


def make_speed_table(contests: Sequence[Contest], threads: Sequence[int]) -> Table:
    """Returns each network's speed against the fastest peer, and their geometric mean."""
    columns = [
        title
        for count in threads
        for title in (f"speed, {count} threads".replace("1 threads", "1 thread"), "fastest peer")
    ]
    table = make_table("edgekit against the fastest peer", "network", *columns)
    for contest in contests:
        cells: list[str] = []
        for count in threads:
            speed, peer = contest.get_speed(count), contest.find_fastest_peer(count)
            cells += [
                "-" if speed is None else f"{speed:.2f} x",
                "-" if peer is None else f"{peer.name} {peer.timings[count].median_ms:.3f} ms",
            ]
        table.add_row(contest.network, *cells)
    means: list[str] = []
    for count in threads:
        mean = mean_speed(contests, count)
        means += ["-" if mean is None else f"{mean:.2f} x", ""]
    table.add_row("geometric mean", *means)
    return table


def _format_snr(entry: Entry) -> str:
    if entry.snr_db is None:
        return "-"
    return f"{entry.snr_db:.1f} dB" + ("" if entry.is_sane else ", NO ANSWER")
