"""`fedge server`: the server's parts, one by one."""

import socket
from contextlib import suppress
from typing import Annotated

import typer

from cli.rounds import RunOption, open_run

app = typer.Typer(no_args_is_help=True, help="The server's parts, one by one.")


@app.callback()
def group() -> None:
    """Keep `fedge server` a group of commands."""


@app.command()
def console(
    run: RunOption,
    host: Annotated[
        str, typer.Option(help="Loopback address to listen on; there is no login, so no other is taken.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8350,
) -> None:
    """Show a run's rounds in the browser and as JSON: read-only, on this machine alone."""
    import uvicorn

    from aggregator.console import create_app, is_loopback
    from fedge.errors import InputError

    if not is_loopback(host):
        raise InputError(f"--host {host}: the console has no login yet, so it listens on loopback only, such as 127.0.0.1")
    with open_run(run) as database, _listen(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        print(f"Console: http://{shown}:{listener.getsockname()[1]}/ (read-only; Ctrl-C ends it)", flush=True)
        config = uvicorn.Config(
            create_app(database), log_level="warning", access_log=False, server_header=False, proxy_headers=False, ws="none"
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket of our own, so that a taken port is one clear line before anything runs."""
    from fedge.errors import InputError

    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InputError(f"--host {host} --port {port}: cannot listen there: {error.strerror or error}") from None
