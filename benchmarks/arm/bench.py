"""Counts the instructions of EfficientNet-Lite0 on emulated ARM boards, beside ONNX Runtime, and models inner loops.

What it prints are instructions and modelled cycles. Neither is a time, and no board was measured:

    python benchmarks/arm/bench.py [--json FILE]

Counts do not depend on what a network answers, so it is calibrated on noise. LiteRT's form of the network is the one
that `make bench` prepares, since converting takes packages that nothing else here needs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from counting import (
    BUILD,
    CROSS,
    CROSS_GNU,
    ROOT,
    InstructionCounter,
    MissingToolError,
    demangle,
)
from emulated_python import (
    LITERT,
    ONNX_RUNTIMES,
    PROGRAM,
    fetch_litert,
    fetch_onnxruntime,
    make_root,
)
from loops import Modelled, model_loops
from rich.console import Console
from rich.table import Table

import edgekit
from edgekit.targets.profile import load_profile
from efficientnet_lite0 import build_model

# The first is what boards get.
RUNNERS = {
    "edgekit, zig": CROSS / "csrc" / "runner" / "edgekit-run",
    "edgekit, g++": CROSS_GNU / "csrc" / "runner" / "edgekit-run",
}
LITERT_MODEL = ROOT / "build" / "bench" / "EfficientNet-Lite0" / "LiteRT_int8" / "model.tflite"
# What the emulator's processors run; `max` has everything that the emulator knows.
CPUS = {
    "cortex-a53": "rpi3",
    "cortex-a72": "rpi4",
    "cortex-a76": "rpi5",
    "max,pauth-impdef=on": "armv8.6-a",
}
# Runtimes read the processors from /sys: this machine's they mistake for the emulated one, and without any, LiteRT does
# without its fast kernels.
_FOUR_CORES = "; ".join(
    (
        "mount -t tmpfs none /sys",
        "mkdir -p /sys/devices/system/cpu",
        "echo 0-3 > /sys/devices/system/cpu/possible",
        "echo 0-3 > /sys/devices/system/cpu/present",
    )
)
BAR = 0.7
BARRED = ("cortex-a72", "cortex-a76")
LOOP_BAR = 0.9
SHOWN = 12
console = Console(width=None if sys.stdout.isatty() else 120)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write everything that was counted to this file")
    arguments = parser.parse_args()
    try:
        counter = InstructionCounter()
        loops = model_loops()
    except MissingToolError as error:
        print(f"bench-arm: {error}", file=sys.stderr)
        return 1
    deployments = {name: deploy(name) for name in sorted(set(CPUS.values()))}
    counted = {
        build: {
            cpu: count_edgekit(counter, runner, cpu, deployments[name])
            for cpu, name in CPUS.items()
        }
        for build, runner in RUNNERS.items()
    }
    peers = count_peers(counter, deployments)
    print_networks(counted, peers)
    print_loops(loops)
    if arguments.json:
        facts = {
            "what": "instructions of one inference in emulation, and cycles of inner loops as modelled: no times",
            "emulator": counter.emulator,
            "edgekit": {
                build: {cpu: dict(counts.most_common()) for cpu, counts in ours.items()}
                for build, ours in counted.items()
            },
            "peers": peers,
            "loops": [loop.to_dict() for loop in loops],
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n")
    return 0


def deploy(target: str) -> Path:
    """Writes the bundle of EfficientNet-Lite0 for a board, and its int8 ONNX file beside the plan."""
    model = BUILD / "efficientnet_lite0.onnx"
    build_model(model)
    noise = np.random.default_rng(0).normal(0, 0.6, (4, 3, 224, 224))
    folder = BUILD / target
    edgekit.deploy(
        model,
        target=load_profile(target).name,
        calibration=np.clip(noise, -1, 1).astype(np.float32),
        ranges="minmax",
        format=("native", "onnx"),
        output=folder,
    )
    return folder


def count_edgekit(
    counter: InstructionCounter, runner: Path, cpu: str, bundle: Path
) -> Counter[str]:
    """Counts one inference, by function."""

    def make_command(times: int) -> list[str]:
        return [str(runner), str(bundle / "model.plan"), "--repeat", str(times)]

    counts, _ = counter.count_step(cpu, make_command, 1, 3)
    return counts


def count_peers(counter: InstructionCounter, bundles: dict[str, Path]) -> dict[str, dict[str, int]]:
    """Counts one inference of each peer on each processor; says what it leaves out."""
    try:
        root = make_root()
    except MissingToolError as error:
        leave_out("peers", str(error))
        return {}
    folder = Path(__file__).parent
    counted: dict[str, dict[str, int]] = {}
    for version in ONNX_RUNTIMES:
        words = [str(folder / "run_onnxruntime.py"), str(fetch_onnxruntime(version))]
        models = {cpu: bundles[target] / "model.onnx" for cpu, target in CPUS.items()}
        name = f"ONNX Runtime {version}"
        counted[name] = count_peer(counter, name, root, words, models)
    name = f"LiteRT {LITERT}"
    if LITERT_MODEL.exists():
        words = [str(folder / "run_litert.py"), str(fetch_litert())]
        counted[name] = count_peer(counter, name, root, words, dict.fromkeys(CPUS, LITERT_MODEL))
    else:
        how = "make bench NETWORKS=EfficientNet-Lite0 QUICK=1"
        leave_out(name, f"no {LITERT_MODEL.relative_to(ROOT)}, which `{how}` prepares")
    return counted


def count_peer(
    counter: InstructionCounter,
    name: str,
    root: Path,
    words: list[str],
    models: dict[str, Path],
) -> dict[str, int]:
    """Counts one inference of a peer on each processor.

    Args:
        counter: The emulator.
        name: For what is left out.
        root: The emulated Python's folder.
        words: A script that runs a model some times, and what it wants before the model.
        models: The model for each processor.
    """
    counts: dict[str, int] = {}
    for cpu, model in models.items():
        try:
            counts[cpu] = count_python(counter, cpu, root, [str(PROGRAM), *words, str(model)])
        except subprocess.CalledProcessError as error:
            leave_out(f"{name} on {cpu}", error.stderr[-300:])
    return counts


def leave_out(what: str, why: str) -> None:
    console.print(f"[bold yellow]LEFT OUT[/] {what}: {why}", highlight=False)


def count_python(counter: InstructionCounter, cpu: str, root: Path, words: list[str]) -> int:
    """Counts one inference, the third to the fifth of a process."""
    wrapper = ["unshare", "-m", "sh", "-c", f'{_FOUR_CORES} && exec "$@"', "sh"]
    base, _ = counter.count(cpu, [*words, "2"], flags=("-L", str(root)), wrapper=wrapper)
    counts, _ = counter.count(cpu, [*words, "5"], flags=("-L", str(root)), wrapper=wrapper)
    return round((counts.total() - base.total()) / 3)


def print_networks(
    counted: dict[str, dict[str, Counter[str]]], peers: dict[str, dict[str, int]]
) -> None:
    table = Table(
        title="EfficientNet-Lite0 int8, one inference: millions of instructions in emulation, not a time"
    )
    table.add_column("runtime")
    for cpu in CPUS:
        table.add_column(cpu.split(",")[0], justify="right")
    for build, totals in counted.items():
        table.add_row(build, *(f"{totals[cpu].total() / 1e6:.1f}" for cpu in CPUS))
    for name, counts in peers.items():
        table.add_row(name, *(f"{counts[cpu] / 1e6:.1f}" if cpu in counts else "" for cpu in CPUS))
    shipped, ours = next(iter(counted.items()))
    shares = {
        cpu: ours[cpu].total() / min(found)
        for cpu in CPUS
        if (found := [counts[cpu] for counts in peers.values() if cpu in counts])
    }
    table.add_row(
        f"{shipped} / best peer",
        *(f"{shares[cpu]:.2f}" if cpu in shares else "" for cpu in CPUS),
    )
    console.print(table)
    for cpu in BARRED:
        if cpu in shares:
            verdict = "met   " if shares[cpu] <= BAR else "MISSED"
            console.print(f"  {verdict} {cpu}: {shares[cpu]:.2f} of the best peer, at most {BAR}")
    for cpu in BARRED:
        most = ours[cpu].most_common(SHOWN)
        console.print(f"\n{cpu}, by function, millions:")
        for (_, count), name in zip(most, demangle([name for name, _ in most]), strict=True):
            console.print(f"  {count / 1e6:8.2f}  {name[:100]}", highlight=False)


def print_loops(loops: list[Modelled]) -> None:
    table = Table(title="Inner loops as llvm-mca models them, all loads hits: no measurement")
    for heading in (
        "loop",
        "kernel",
        "CPU",
        "model",
        "instructions",
        "multiplies",
        "cycles",
        "of the multiply pipes",
        "at most",
        "products a cycle",
    ):
        table.add_column(heading)
    for loop in loops:
        shares = (
            f"{loop.cycles:.1f}",
            f"{loop.share:.1%}",
            f"{loop.limit:.1%}",
            f"{loop.rate:.2f}",
        )
        values = (loop.instructions, loop.multiplies, *shares)
        table.add_row(loop.loop, loop.kernel, loop.cpu, loop.model, *map(str, values))
    console.print(table)
    for loop in loops:
        if loop.loop.startswith(("GEMM", "depthwise")) and loop.cpu != "Cortex-A53":
            verdict = "met   " if loop.share >= LOOP_BAR else "MISSED"
            console.print(
                f"  {verdict} {loop.loop} {loop.kernel} on {loop.cpu}: {loop.share:.1%}, "
                f"at most {loop.limit:.1%}",
                highlight=False,
            )


if __name__ == "__main__":
    sys.exit(main())
