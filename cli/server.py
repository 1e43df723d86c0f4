"""`fedge server`: set a server up, and run its parts, one by one or all together."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli import accounts, audit
from cli.assignments import SetOption, assignments
from cli.homes import ServerHomeOption, server_home
from cli.rounds import RunOption, open_run
from cli.upstream import upstream

app = typer.Typer(no_args_is_help=True, help="Set a server up, and run its parts, one by one or all together.")

app.add_typer(accounts.app, name="accounts")
app.command()(upstream)
app.command()(audit.audit)

JsonOption = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


class WorkloadName(StrEnum):
    """Workloads that ship with fedge, and one for anyone's file."""

    HOME = "home"
    CLINC150 = "clinc150"
    CSV = "csv"
    DIGITS = "digits"


class Part(StrEnum):
    """The processes of a server."""

    DOOR = "door"
    SUPERLINK = "superlink"
    ROUNDS = "rounds"
    CENTRAL = "central"
    CONSOLE = "console"
    ALL = "all"


@app.callback()
def group() -> None:
    """Keep `fedge server` a group of commands."""


@app.command()
def init(
    home: ServerHomeOption = None,
    workload: Annotated[
        WorkloadName | None, typer.Option(help="What is asked and answered.", show_default="home, or what stands there")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="For --workload csv: text,label[,user] in UTF-8, gzip too.")] = None,
    names: Annotated[
        list[str] | None,
        typer.Option(
            help="A name or address of this server in its certificates; may be given several times.",
            show_default="localhost, 127.0.0.1",
        ),
    ] = None,
    settings: SetOption = None,
    force_models: Annotated[bool, typer.Option("--force-models", help="Prepare the models anew.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Write `server.toml`, make keys, prepare the workload's models and publish the first release.

    May be run again: keys, settings and releases that are there are kept.
    """
    import json

    from cli.local_server import prepare_server
    from cli.stages import Stages

    stands = server_home(home)
    with Stages(quiet=json_output) as stages:
        outcome = prepare_server(
            stands,
            workload=None if workload is None else workload.value,
            data=data,
            names=tuple(names or ()),
            settings=assignments(settings),
            force_models=force_models,
            stage=stages,
        )
    if json_output:
        print(json.dumps({"home": str(stands.folder), "made": outcome.made, "kept": outcome.kept}))
        return
    for done, what in (("made", outcome.made), ("kept", outcome.kept)):
        if what:
            print(f"{done}: {', '.join(what)}")
    print(f"The server is set up in {stands.folder}. Next: fedge up, or fedge server run all")


@app.command()
def run(
    part: Annotated[Part, typer.Argument(help="Which part; `all` runs each as a process.")], home: ServerHomeOption = None
) -> None:
    """Run one part until SIGTERM or Ctrl-C. It says one line when it is ready."""
    stands = server_home(home)
    if part is Part.ALL:
        from cli.local_server import run_all

        run_all(stands)
        return
    from aggregator.processes import run_part

    run_part(part.value, stands)


@app.command()
def config(
    home: ServerHomeOption = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="Print docs/configuration.md: every setting of server and device.")
    ] = False,
) -> None:
    """Print the settings in effect as a commented `server.toml`."""
    if reference:
        from cli.reference import reference as pages

        print(pages(), end="")
        return
    from fedge.settings_text import as_toml

    print(as_toml(server_home(home).settings()), end="")


@app.command()
def console(
    run: RunOption,
    host: Annotated[str, typer.Option(help="Loopback address to listen on; this command takes no other.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8350,
) -> None:
    """Show a run's rounds in the browser and as JSON: read-only, on this machine alone."""
    from aggregator.console import create_app, is_loopback
    from aggregator.http_serving import listening, serve_http
    from fedge.errors import InputError

    if not is_loopback(host):
        raise InputError(
            f"--host {host}: this command listens on loopback only, such as 127.0.0.1; for others, with login "
            "and TLS, see [console] in server.toml and fedge server run console"
        )
    where = f"--host {host} --port {port}"
    with open_run(run) as database, listening(host, port, named=where) as listener:
        shown = f"[{host}]" if ":" in host else host
        said = f"Console: http://{shown}:{listener.getsockname()[1]}/ (read-only; Ctrl-C ends it)"
        serve_http(create_app(database), listener, ready=lambda: print(said, flush=True))
