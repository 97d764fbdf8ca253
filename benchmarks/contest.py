"""Times edgekit against every runtime that a user could pick instead, on real networks.

Each runtime gets its own file of a network, made in its own best documented way, and a process of its own; all of them
are timed in turns. docs/benchmarks.md says what is measured and how each file is made.

    make bench NETWORKS="lite0 det" JSON=build/bench.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from edgekit.peers.contest import hold_contest
from edgekit.peers.plot import write_plot
from edgekit.peers.result import Contest, make_record, make_speed_table, print_contest
from networks import NETWORKS, Network

console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)


def choose(words: list[str], more: tuple[Network, ...] = ()) -> list[Network]:
    """Returns the networks, and those of ``more``, whose names hold one of the words, all of them for none."""
    known = (*NETWORKS, *more)
    chosen = [
        network
        for network in known
        if not words or any(word.lower() in network.name.lower() for word in words)
    ]
    if not chosen:
        sys.exit(f"no network is called that; there are: {', '.join(n.name for n in known)}")
    return chosen


def contend(network: Network, arguments: argparse.Namespace) -> Contest | None:
    """Holds the contest of one network; None, said aloud, where its data is missing."""
    folder = arguments.output / network.name.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "source.onnx"
    try:
        network.write(model)
        samples = network.read_samples(folder)
    except FileNotFoundError as error:
        console.print(f"[bold red]LEFT OUT[/] {network.name}: {error}", markup=True)
        return None
    return hold_contest(
        network.name,
        model,
        samples,
        folder=folder,
        threads=arguments.threads,
        seconds=arguments.seconds,
        description=f"{len(samples)} samples: {network.samples}",
        only_prepare=arguments.prepare,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", help="parts of names; default: all networks")
    parser.add_argument("--output", type=Path, default=Path("build/bench"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=15.0, help="of timing, for each threads")
    parser.add_argument("--json", type=Path, help="write everything that was measured to this file")
    parser.add_argument("--plot", type=Path, help="write an SVG of the speeds")
    parser.add_argument("--prepare", action="store_true", help="only make everyone's files")
    arguments = parser.parse_args()

    contests = []
    for network in choose(arguments.networks):
        contest = contend(network, arguments)
        if contest is None:
            continue
        contests.append(contest)
        if arguments.prepare:
            for entry in contest.entries:
                console.print(f"{network.name}, {entry.name}: {entry.reason or entry.how}")
            continue
        print_contest(console, contest)
    if arguments.prepare:
        return
    console.print(make_speed_table(contests, arguments.threads))
    record = make_record(contests)
    console.print(record["measured_on"])
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if arguments.plot:
        write_plot(arguments.plot, contests, arguments.threads, record["measured_on"])


if __name__ == "__main__":
    main()
