"""`fedge devices`: who belongs to the fleet. For the operator, on the server's machine, with the authority's keys."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cli.homes import ServerHomeOption, server_home

if TYPE_CHECKING:
    from pathlib import Path

    from aggregator.operator import Operator

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
    """Print a join string for one new device. It is a secret: whoever uses it first becomes a member."""
    made = _operator(home).invite(address=address, minutes=minutes)
    if json_output:
        print(json.dumps({"join": made.to_text(), "fingerprint": made.fingerprint, "minutes": minutes}))
    else:
        print(made.to_text())


@app.command("list")
def list_devices(home: ServerHomeOption = None, json_output: JsonOption = False) -> None:
    """Every device that joined: since when, when it was last seen, until when its certificates last, and its state."""
    from rich.console import Console
    from rich.table import Table

    entries = _operator(home).devices()
    if json_output:
        print(json.dumps(entries))
        return
    table = Table("device", "state", "joined", "seen", "certificates until", "reason", box=None, pad_edge=False)
    for entry in entries:
        dates = (_date(entry[key]) for key in ("joined", "seen", "expires"))
        table.add_row(str(entry["device"]), str(entry["state"]), *dates, str(entry["reason"] or ""))
    Console(highlight=False).print(table if entries else "No device has joined yet: `fedge devices token` invites one.")


@app.command()
def revoke(
    device: Annotated[str, typer.Argument(metavar="DEVICE")],
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "revoked by the operator",
    home: ServerHomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Shut a device out for good: from its next call, and from the next roster on."""
    done = _operator(home).revoke(device, reason=reason)
    if json_output:
        print(json.dumps(done))
    else:
        print(f"{device} is revoked: its next call is refused.")


def _operator(home: "Path | None") -> "Operator":
    from aggregator.operator import Operator

    return Operator(server_home(home))


def _date(at: object) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M") if isinstance(at, float) else "-"
