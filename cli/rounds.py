"""`fedge rounds`: what the aggregator recorded of its rounds."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import rounds_acting, rounds_watch
from cli.homes import ServerHomeOption, server_home

if TYPE_CHECKING:
    from aggregator.store import Database

app = typer.Typer(no_args_is_help=True, help="Rounds as the aggregator recorded them; watching them and acting on them.")
app.command()(rounds_watch.watch)
app.command()(rounds_acting.start)
app.command()(rounds_acting.pause)
app.command()(rounds_acting.resume)
app.command()(rounds_acting.stop)
app.command("set")(rounds_acting.change)
app.command()(rounds_acting.readmit)

RunOption = Annotated[Path, typer.Option("--run", help="A run's folder (as given to --out), or the database file itself.")]
AnyRunOption = Annotated[
    Path | None,
    typer.Option("--run", help="A simulated run's folder (as given to --out).", show_default="the server's"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


@app.callback()
def group() -> None:
    """Keep `fedge rounds` a group of commands."""


@app.command("list")
def list_rounds(run: AnyRunOption = None, home: ServerHomeOption = None, json_output: JsonOption = False) -> None:
    """One line a round: state, cohort, survivors, release, seconds by phase."""
    from rich.table import Table

    from aggregator.store.serializers import round_entry
    from cli.console import PlainConsole
    from cli.rounds_shown import date

    with _open(run, home) as database:
        rounds = [round_entry(row) for row in database.rounds()]
    if json_output:
        print(json.dumps(rounds))
        return
    table = Table("round", "state", "cohort", "survivors", "finished", "seconds", "release", box=None, pad_edge=False)
    for entry in rounds:
        table.add_row(
            str(entry["round"]),
            entry["state"],
            str(entry["cohort"]),
            str(entry["survivors"]),
            date(entry["finished"]),
            f"{sum(entry['seconds'].values()):.1f}",
            (entry["release"] or "-")[:12],
        )
    console = PlainConsole()
    console.print(table)
    if run is None and _is_demo(home):
        console.print("A demonstration: fewer than 8 devices have to add up, so these sums are not private.", soft_wrap=True)


@app.command()
def show(
    number: Annotated[int, typer.Argument(metavar="ROUND", help="Its number, as fedge rounds list shows it.")],
    run: AnyRunOption = None,
    home: ServerHomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """One round in full: its sessions, who left at which stage and why, and what came out."""
    from aggregator.store.serializers import round_document
    from cli.rounds_shown import show_round

    with _open(run, home) as database:
        document = round_document(database, number)
    if json_output:
        print(json.dumps(document))
        return
    show_round(document)


@app.command()
def suspects(run: AnyRunOption = None, home: ServerHomeOption = None, json_output: JsonOption = False) -> None:
    """List the devices that rounds exclude because sums were spoiled, and those that are under suspicion."""
    from cli.suspects import show_suspects

    with _open(run, home) as database:
        show_suspects(database, json_output=json_output)


def open_run(run: Path) -> "Database":
    """The database of a run, which has to be there. Raises InputError."""
    from aggregator.store import Database
    from fedge.errors import InputError

    path = run / "aggregator.sqlite" if run.is_dir() else run
    if not path.is_file():
        raise InputError(f"--run {run}: no aggregator.sqlite there; give the folder that a run was written to")
    return Database.open(f"sqlite:///{path.absolute()}")


def _open(run: Path | None, home: Path | None) -> "Database":
    """The database of a simulated run, or else of the server. Raises InputError."""
    if run is not None:
        if home is not None:
            raise typer.BadParameter("--run and --home exclude each other")
        return open_run(run)
    from aggregator.processes import database_url
    from aggregator.store import Database
    from fedge.errors import InputError

    server = server_home(home)
    if not server.settings_file.is_file():
        raise InputError(f"no server is set up in {server.folder}: give --run for a simulated run, or run fedge server init")
    return Database.open(database_url(server, server.settings()))


def _is_demo(home: Path | None) -> bool:
    """Whether the server's sums hide nothing."""
    from aggregator.processes import secagg_label

    return secagg_label(server_home(home).settings()) == "demo"
