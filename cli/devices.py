"""`fedge devices`: who belongs to the fleet. For the operator, on the server's machine, with the authority's keys."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cli.acting import acting
from cli.homes import ServerHomeOption, server_home

if TYPE_CHECKING:
    from pathlib import Path

    from aggregator.admin import Operator

app = typer.Typer(no_args_is_help=True, help="Who belongs to the fleet: on the server's machine.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


@app.callback()
def group() -> None:
    """Keep `fedge devices` a group of commands."""


@app.command()
def token(
    home: ServerHomeOption = None,
    address: Annotated[
        str | None,
        typer.Option(help="HOST or HOST:PORT under which devices reach the door.", show_default="the first of `names`"),
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, max=24 * 60, help="How long the token is good for.")] = 15.0,
    json_output: JsonOption = False,
) -> None:
    """Print a join string for one new device. A secret: whoever uses it first becomes a member. Goes into the audit."""
    with acting(home) as user, user.recorded("device.invite", "", "", {"minutes": minutes}):
        made = user.operator.invite(address=address, minutes=minutes)
    if json_output:
        print(json.dumps({"join": made.to_text(), "fingerprint": made.fingerprint, "minutes": minutes}))
    else:
        print(made.to_text())


@app.command("list")
def list_devices(
    home: ServerHomeOption = None,
    release: Annotated[str | None, typer.Option(metavar="ID", help="Only those that answer with this release.")] = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only those with questions that wait for central.")] = False,
    silent: Annotated[bool, typer.Option("--silent", help="Only members not heard of for ten minutes.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Every device that joined: its state, when it was last seen (UTC), what it says of itself; `--json` has all of it."""
    from rich.table import Table

    from aggregator.fleet.inventory import Wanted
    from cli.console import PlainConsole

    operator = _operator(home)
    wanted = Wanted(release=operator.find_release(release) if release else None, waiting=waiting, silent=silent)
    entries = operator.devices(wanted)
    if json_output:
        print(json.dumps(entries))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("device", "state", "seen", "release", "energy", "queue", "valid until"):
        table.add_column(name, no_wrap=True)
    if any(entry["reason"] for entry in entries):
        table.add_column("reason", overflow="fold")
    for entry in entries:
        table.add_row(
            str(entry["device"]),
            f"{entry['state']}, silent" if entry["silent"] else str(entry["state"]),
            _date(entry["seen"]),
            str(entry["release"] or "-")[:12],
            str(entry["energy_source"] or "-"),
            "-" if entry["queue"] is None else str(entry["queue"]),
            _date(entry["expires"]),
            str(entry["reason"] or ""),
        )
    empty = "No device is so." if wanted != Wanted() else "No device has joined yet: `fedge devices token` invites one."
    PlainConsole().print(table if entries else empty)


@app.command()
def revoke(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Its id, as fedge devices list shows it.")],
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "revoked by the operator",
    home: ServerHomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Shut a device out for good: from its next call, and from the next roster on. Goes into the audit."""
    with acting(home) as user, user.recorded("device.revoke", device, reason):
        done = user.operator.revoke(device, reason=reason)
    if json_output:
        print(json.dumps(done))
    else:
        print(f"{device} is revoked: its next call is refused.")


def _operator(home: "Path | None") -> "Operator":
    from aggregator.admin import Operator

    return Operator(server_home(home))


def _date(at: object) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%m-%d %H:%M") if isinstance(at, float) else "-"
