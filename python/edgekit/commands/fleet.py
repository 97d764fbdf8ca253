"""`edgekit fleet`: many devices at once.

Exit codes besides those of cli.py: 3 where devices failed within what the rule allows, 4 where the rule stopped the
rollout.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from edgekit.commands.console import Json, bars, err, out, print_json

if TYPE_CHECKING:
    from edgekit.delivery.fleet.fleet import DeviceRow
    from edgekit.delivery.fleet.rollout import Event, RolloutResult

SOME_FAILED = 3
ABORTED = 4
INTERRUPTED = 130

_SHORT_DIGEST = 12

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Update many devices in stages, and tell what each runs.",
    epilog="Exit codes: 3 some devices failed, 4 the rollout was aborted, and those of edgekit.",
)

InventoryFile = Annotated[
    Path,
    typer.Argument(
        help="fleet.toml, or Ansible's: INI, YAML, or JSON of `ansible-inventory --list`."
    ),
]
Groups = Annotated[
    list[str] | None, typer.Option("--group", help="Only these devices; may be given often.")
]
Names = Annotated[
    list[str] | None, typer.Option("--device", help="Only these devices; may be given often.")
]
Parallel = Annotated[int, typer.Option(min=1, max=256, help="Devices at a time.")]
Sudo = Annotated[
    bool, typer.Option("--sudo", help="Work as root there, by a sudo that asks for no password.")
]
Restart = Annotated[
    str | None,
    typer.Option(
        help="A command that restarts the device's service, which then confirms the bundle; without it, the bundle "
        "stays as soon as the device has checked it."
    ),
]
JournalFile = Annotated[
    Path | None,
    typer.Option(help="How far the rollout is; default: INVENTORY.rollout.json beside it."),
]


@app.command()
def update(
    inventory: InventoryFile,
    bundles: Annotated[
        list[Path], typer.Argument(help="Signed bundles, one for each board, or a folder of such.")
    ],
    group: Groups = None,
    device: Names = None,
    canary: Annotated[
        int, typer.Option(min=0, help="Devices that go first; if one of them fails, none follows.")
    ] = 1,
    stages: Annotated[
        str, typer.Option(help="How much of the fleet is updated after each stage: 10%,50%,100%.")
    ] = "100%",
    wait: Annotated[
        float,
        typer.Option(min=0, help="Seconds after a stage; all that are updated are checked again."),
    ] = 0,
    max_failures: Annotated[
        str, typer.Option(help="How many devices may fail before it stops: 2, or 10%.")
    ] = "0",
    parallel: Parallel = 8,
    key: Annotated[
        Path | None,
        typer.Option(help="The public key that must have signed; new devices will trust it."),
    ] = None,
    restart_service: Restart = None,
    confirm_within: Annotated[
        float, typer.Option(min=0, help="Seconds that the service may take to confirm.")
    ] = 60,
    check: Annotated[
        str | None, typer.Option(help="A command that ends with status 0 on a device that is well.")
    ] = None,
    sudo: Sudo = False,
    journal: JournalFile = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Begin anew, whatever the journal says.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring each device the bundle of its board, in stages; the same command again goes on where it stopped."""
    from edgekit.delivery.fleet.board_installer import Care
    from edgekit.delivery.fleet.fleet import update_fleet
    from edgekit.delivery.fleet.inventory import read_inventory
    from edgekit.delivery.fleet.journal import DeviceOutcome, Outcome
    from edgekit.delivery.fleet.strategy import Portion, Strategy, parse_stages

    strategy = Strategy(canary, parse_stages(stages), wait, Portion.parse(max_failures), parallel)
    care = Care(key, sudo, restart_service, confirm_within, check)
    with bars() as progress:

        def tell(event: Event) -> None:
            err.print(event.text, markup=False, highlight=False, soft_wrap=True)
            progress("updated", event.done, event.total)

        result = update_fleet(
            read_inventory(inventory),
            bundles,
            groups=group or (),
            names=device or (),
            strategy=strategy,
            care=care,
            journal=journal,
            anew=anew,
            tell=tell,
        )
    if as_json:
        print_json(result.to_dict())
    else:
        _print_result(result)
    if result.outcome == Outcome.ABORTED:
        raise typer.Exit(ABORTED)
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)
    if result.count(DeviceOutcome.FAILED):
        raise typer.Exit(SOME_FAILED)


@app.command()
def status(
    inventory: InventoryFile,
    group: Groups = None,
    device: Names = None,
    parallel: Parallel = 16,
    sudo: Sudo = False,
    as_json: Json = False,
) -> None:
    """Ask each device what it runs."""
    from edgekit.delivery.fleet.fleet import read_fleet
    from edgekit.delivery.fleet.inventory import read_inventory

    with bars() as progress:
        rows = read_fleet(
            read_inventory(inventory),
            groups=group or (),
            names=device or (),
            sudo=sudo,
            parallel=parallel,
            progress=lambda done, total: progress("asked", done, total),
        )
    if as_json:
        print_json([row.to_dict() for row in rows])
    else:
        out.print(_make_table(rows))


@app.command()
def back(
    inventory: InventoryFile,
    bundles: Annotated[
        list[Path] | None,
        typer.Argument(help="Take these back; default: those of the last rollout's journal."),
    ] = None,
    group: Groups = None,
    device: Names = None,
    parallel: Parallel = 8,
    restart_service: Restart = None,
    why: Annotated[str, typer.Option(help="For the devices' logs.")] = "the fleet goes back",
    sudo: Sudo = False,
    journal: JournalFile = None,
    as_json: Json = False,
) -> None:
    """Let each device that runs these bundles run what it ran before."""
    from edgekit.delivery.fleet.board_installer import Care
    from edgekit.delivery.fleet.fleet import take_back
    from edgekit.delivery.fleet.inventory import read_inventory

    results = take_back(
        read_inventory(inventory),
        bundles=bundles or (),
        groups=group or (),
        names=device or (),
        care=Care(sudo=sudo, restart=restart_service),
        journal=journal,
        why=why,
        parallel=parallel,
    )
    if as_json:
        print_json(results)
    else:
        for name, words in results.items():
            out.print(f"{name} {words}", markup=False, highlight=False, soft_wrap=True)
    if any(words.startswith("failed") for words in results.values()):
        raise typer.Exit(SOME_FAILED)


@app.command()
def kubernetes(
    bundle: Annotated[Path, typer.Argument(help="A signed bundle: its folder or its one file.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder to write: daemonset.yaml and image.")
    ],
    name: Annotated[str | None, typer.Option(help="The DaemonSet's name.")] = None,
    namespace: Annotated[str, typer.Option(help="Where it goes.")] = "default",
    image: Annotated[
        str | None, typer.Option(help="The image's name, with your registry if you have one.")
    ] = None,
    base: Annotated[
        str, typer.Option(help="The image to build on: a Linux with busybox's programs.")
    ] = "busybox:stable",
    node_label: Annotated[
        list[str] | None,
        typer.Option(
            help="KEY=VALUE of the nodes that are meant; default edgekit-board=BOARD; may be given often."
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="Where each node's pod serves the model.")] = 7070,
    memory: Annotated[
        int | None,
        typer.Option(min=1, help="Most MiB of a container; default: the bundle's limits and 64."),
    ] = None,
    cpu: Annotated[str | None, typer.Option(help="Most cores of a container: 2, or 500m.")] = None,
    key: Annotated[
        Path | None, typer.Option(help="The public key that must have signed; nodes trust it.")
    ] = None,
) -> None:
    """Write a DaemonSet for Kubernetes or K3s, and the folder that its image is built from."""
    from edgekit.bundles.archive import unpacked
    from edgekit.delivery.fleet.kubernetes import Cluster, write_kubernetes

    labels = dict(item.partition("=")[::2] for item in node_label or [])
    cluster = Cluster(
        name=name,
        namespace=namespace,
        image=image,
        base=base,
        port=port,
        labels=labels,
        memory_mib=memory,
        cpu=cpu,
        key=key,
    )
    with unpacked(bundle) as folder:
        image = write_kubernetes(folder, output, cluster)
    out.print(
        f"written to {output}; next:\n"
        f"  docker build --tag {image} {output}/image\n"
        f"  kubectl apply -f {output}/daemonset.yaml",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def mender(
    bundle: Annotated[Path, typer.Argument(help="A signed bundle: its folder or its one file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .mender file to write.")],
    device_type: Annotated[
        list[str],
        typer.Option(help="Mender's name of devices that may get it; may be given often."),
    ],
    name: Annotated[
        str | None, typer.Option(help="The artifact's name; default: board, release and digest.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="The public key that must have signed the bundle.")
    ] = None,
    mender_key: Annotated[
        Path | None, typer.Option(help="The private key that signs the artifact for Mender.")
    ] = None,
) -> None:
    """Write an artifact for Mender, whose update module `edgekit` hands the bundle to edgekit-board."""
    from edgekit.bundles.archive import unpacked
    from edgekit.delivery.fleet.mender import SCRIPTS, write_mender_artifact

    with unpacked(bundle) as folder:
        told = write_mender_artifact(
            folder, output, device_types=device_type, name=name, key=key, mender_key=mender_key
        )
    out.print(told.strip(), markup=False, highlight=False, soft_wrap=True)
    out.print(
        f"written to {output}; devices need {SCRIPTS / 'edgekit.sh'} as /usr/share/mender/modules/v3/edgekit",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _print_result(result: RolloutResult) -> None:
    from edgekit.delivery.fleet.journal import DeviceOutcome

    counts = [f"{result.count(state)} {state}" for state in DeviceOutcome if result.count(state)]
    out.print(f"{result.outcome}: {', '.join(counts)}", markup=False, highlight=False)
    if result.reason:
        out.print(result.reason, markup=False, highlight=False, soft_wrap=True)
    for name, entry in result.entries.items():
        if entry.state == DeviceOutcome.FAILED:
            out.print(f"  {name}: {entry.detail}", markup=False, highlight=False, soft_wrap=True)


def _make_table(rows: list[DeviceRow]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="")
    for title in ("device", "board", "slot", "release", "bundle", "seen", "state"):
        table.add_column(title, no_wrap=title != "state")
    for row in rows:
        facts = row.to_dict()
        facts["digest"] = (facts["digest"] or "")[:_SHORT_DIGEST]
        keys = ("device", "board", "slot", "release", "digest", "seen", "state")
        table.add_row(*("-" if facts[key] in (None, "") else str(facts[key]) for key in keys))
    return table
