"""`fedge device`: this machine as a device of the fleet. Each command's body is in a module of its own."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.assignments import SetOption, assignments
from cli.homes import HomeOption

app = typer.Typer(no_args_is_help=True, help="This machine as a device of the fleet.")
data = typer.Typer(no_args_is_help=True, help="What the device keeps of its users: listed, exported.")
app.add_typer(data, name="data")

JsonOption = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


@app.callback()
def group() -> None:
    """Keep `fedge device` a group of commands."""


@app.command()
def enroll(
    join: Annotated[
        str, typer.Argument(metavar="JOIN", help="What `fedge devices token` printed, or - to read it from stdin.")
    ],
    home: Annotated[
        Path | None, typer.Option(help="The device's folder; default: ~/.fedge/devices/ID (or FEDGE_HOME).")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The device's id in the fleet; default: this machine's host name.")
    ] = None,
    server_name: Annotated[
        str | None, typer.Option(help="Name in the server's certificate where it differs from the host dialled.")
    ] = None,
    settings: SetOption = None,
) -> None:
    """Make this machine a member of a fleet: keys are made here and never leave it."""
    from cli.device_enroll import enroll_here

    enroll_here(join, home, name, server_name, assignments(settings))


@app.command()
def run(
    home: HomeOption = None,
    policy: Annotated[
        Path | None, typer.Option(help="A policy (TOML) in place of the one that the device's settings name.")
    ] = None,
) -> None:
    """Run the agent until SIGTERM or Ctrl-C: local API, releases, rounds."""
    from cli.device_run import run_agent

    run_agent(home, policy)


@app.command()
def status(home: HomeOption = None, json_output: JsonOption = False) -> None:
    """What the agent runs with, and what it is missing. Exit code 1 where none runs or it cannot answer."""
    from cli.device_run import show_status

    show_status(home, json_output=json_output)


@app.command()
def doctor(home: HomeOption = None, json_output: JsonOption = False) -> None:
    """Examine this machine, the device's folder and its connections. Exit code 1 where a check fails."""
    from cli.device_doctor import show_examination

    show_examination(home, json_output=json_output)


@data.callback()
def data_group() -> None:
    """Keep `fedge device data` a group of commands."""


@data.command("list")
def list_data(home: HomeOption = None, json_output: JsonOption = False) -> None:
    """How much is kept of each kind, and since when."""
    from cli.device_data import show_listing

    show_listing(home, json_output=json_output)


@data.command("export")
def export_data(
    home: HomeOption = None,
    out: Annotated[Path | None, typer.Option(help="Write there (mode 0600) instead of to standard output.")] = None,
) -> None:
    """Everything that is kept, one JSON object a line."""
    from cli.device_data import write_export

    write_export(home, out)


def forget(
    home: HomeOption = None,
    before: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Only what is older than this (UTC).")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of it.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Delete queries and all that was made of them, and overwrite their bytes. Give --before or --all."""
    from cli.device_data import forget_data

    if (before is None) == (not everything):
        raise typer.BadParameter("give either --before DATE or --all")
    forget_data(home, before, json_output=json_output)


app.command("forget")(forget)
data.command("forget")(forget)
