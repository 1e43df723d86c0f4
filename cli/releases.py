"""`fedge releases`: what the fleet runs, and the operator's word on it. For the machine that holds the server's folder.

A decision is taken in the registry and signed for the devices at once; a running server need not be told. The rounds process
goes by it from its next round on.
"""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.acting import acting
from cli.homes import ServerHomeOption, server_home

if TYPE_CHECKING:
    from aggregator.admin import Operator

app = typer.Typer(no_args_is_help=True, help="What the fleet runs: list, promote, roll back.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
ReasonOption = Annotated[str, typer.Option(help="Why; it is recorded with the release.")]
ReleaseArgument = Annotated[str, typer.Argument(metavar="RELEASE", help="A release's id, or the beginning of one.")]


@app.callback()
def group() -> None:
    """Keep `fedge releases` a group of commands."""


@app.command("list")
def list_releases(home: ServerHomeOption = None, json_output: JsonOption = False) -> None:
    """One line a release, in the order of publication: version, state, certificate, since when (UTC) and why it is so."""
    from rich.table import Table

    from cli.console import PlainConsole

    operator = _operator(home)
    entries = operator.releases()
    if json_output:
        steps = operator.steps()
        print(json.dumps([{**entry, "history": steps.get(entry["release"], [])} for entry in entries]))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("release", "version", "state", "certified", "since"):
        table.add_column(name, no_wrap=True)
    table.add_column("reason", overflow="fold")
    for entry in entries:
        state = entry["state"].replace("_", " ")
        table.add_row(
            entry["release"][:12],
            str(entry["version"]),
            state if entry["share"] is None else f"{state}, {entry['channel']} {entry['share']:.0%}",
            entry["certificate"] or "-",
            time.strftime("%m-%d %H:%M", time.gmtime(entry["since"])),
            entry["reason"],
        )
    console = PlainConsole()
    console.print(table)
    if waiting := operator.awaits_signature():
        console.print(f"Waits for the signing machine: {', '.join(waiting)}; run fedge keys export")
    for role, at in sorted(operator.tuf().expires().items(), key=lambda item: item[1]):
        left_days = (at - time.time()) / 86400
        if left_days < 0 or (role == "root" and left_days < 60):
            state = "has expired: devices take nothing" if left_days < 0 else f"expires in {left_days:.0f} days"
            console.print(f"TUF's {role} {state}; see docs/tuf.md")


@app.command()
def promote(
    release: ReleaseArgument, home: ServerHomeOption = None, reason: ReasonOption = "promoted by an operator"
) -> None:
    """Make a candidate, on the canary or not, what all devices run. Goes into the audit."""
    with acting(home) as user:
        target = user.operator.find_release(release)
        with user.recorded("release.promote", target, reason):
            print(user.operator.promote(target, reason=reason, by=user.name))


@app.command()
def rollback(home: ServerHomeOption = None, reason: ReasonOption = "rolled back by an operator") -> None:
    """Take back the release on the canary; without one, the active release, for the one before it. Goes into the audit."""
    with acting(home) as user, user.recorded("release.rollback", "", reason):
        print(user.operator.roll_back(reason=reason, by=user.name))


@app.command("rotate-root")
def rotate_root(
    home: ServerHomeOption = None,
    root_keys: Annotated[
        Path | None, typer.Option(help="Folder of the present root keys; default: tuf/root in the server's folder.")
    ] = None,
    new_root_keys: Annotated[
        Path | None, typer.Option(help="New folder for new root keys, which take over; without it the present ones stay.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=16, help="How many new root keys.")] = 1,
    threshold: Annotated[int | None, typer.Option(min=1, help="How many root keys must sign from now on.")] = None,
    online: Annotated[bool, typer.Option("--online", help="New keys for release, snapshot and timestamp as well.")] = False,
) -> None:
    """Sign a new TUF root: renews its expiry, replaces keys. Devices follow it by themselves."""
    from aggregator.releases.tuf_keys import ONLINE

    with acting(home) as user, user.recorded("releases.rotate-root", "", "", {"online": online}):
        version = user.operator.tuf().rotate(
            root_keys=root_keys,
            new_root_keys=new_root_keys,
            count=count,
            threshold=threshold,
            online=ONLINE if online else (),
        )
    print(f"root {version} is signed and offered")
    if new_root_keys is not None:
        print(f"take {new_root_keys} off this machine, and keep a copy; the keys before it have no say any more")


@app.command()
def restored(home: ServerHomeOption = None) -> None:
    """After the server's folder was restored from a backup: sign versions above all that devices may have seen."""
    with acting(home) as user, user.recorded("releases.restored", "", ""):
        user.operator.restored()
    print("signed anew, with versions moved ahead: devices go on at their next look")


def _operator(home: Path | None) -> "Operator":
    from aggregator.admin import Operator

    return Operator(server_home(home))
