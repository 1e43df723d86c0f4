"""Where a person's own server and devices stand: under `~/.fedge` or FEDGE_HOME, or as --home says."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedge.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aggregator.settings import ServerHome
    from aggregator.store import Database
    from edge_client.settings import DeviceHome

HomeOption = Annotated[
    Path | None, typer.Option(help="The device's folder; default: the one device under ~/.fedge/devices (or FEDGE_HOME).")
]
ServerHomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="The server's folder, or the one that holds it; default: ~/.fedge (or FEDGE_HOME)."),
]


def fedge_home(home: Path | None = None) -> Path:
    """The folder that holds ``server/`` and ``devices/``."""
    chosen = home or Path(os.environ.get("FEDGE_HOME") or Path.home() / ".fedge")
    return chosen.expanduser().absolute()


def server_home(home: Path | None) -> "ServerHome":
    """The server's folder; --home may name it directly, too."""
    from aggregator.settings import ServerHome

    base = fedge_home(home)
    itself = ServerHome(base)
    return itself if itself.settings_file.is_file() else ServerHome(base / "server")


@contextmanager
def open_server(home: Path | None) -> "Iterator[tuple[ServerHome, Database]]":
    """The home and the database of a server that was set up. Raises InputError."""
    from aggregator.processes import database_url
    from aggregator.store import Database

    server = server_home(home)
    with Database.open(database_url(server, server.settings())) as database:
        yield server, database


def device_homes(home: Path | None = None) -> list["DeviceHome"]:
    """The devices of this user on this machine, or of the folder that ``fedge up`` was given, by name."""
    from edge_client.settings import DeviceHome

    folder = fedge_home(home) / "devices"
    return [DeviceHome(home) for home in sorted(folder.iterdir() if folder.is_dir() else ()) if home.is_dir()]


def device_home(home: Path | None) -> "DeviceHome":
    """The device that --home names, or the only one there is. Raises InputError."""
    from edge_client.settings import DeviceHome

    if home is not None:
        chosen = DeviceHome(home)
        if not chosen.settings_file.is_file():
            raise InputError(f"--home {home}: no device.toml there; enrol this device first: fedge device enroll")
        return chosen
    found = device_homes()
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(f"no device in {fedge_home() / 'devices'}: enrol one (fedge device enroll), or give --home")
    names = ", ".join(one.folder.name for one in found[:8])
    raise InputError(f"several devices in {fedge_home() / 'devices'} ({names}): name one, as in --home {found[0].folder}")


def agent_url(home: Path | None, url: str | None) -> str:
    """The local API to ask: --url, or that of the agent in --home, or of the first one that runs. Raises InputError.

    --home may also name the folder that holds all devices, as `fedge up` was given it.
    """
    from edge_client.agent_file import RunningAgent

    if url is not None:
        return url
    several = home is None or (home / "devices").is_dir()
    homes = device_homes(home) if several or home is None else [device_home(home)]
    for one in homes:
        running = RunningAgent.of(one)
        if running is not None:
            return running.url
    where = str(home) if home is not None else str(fedge_home() / "devices")
    raise InputError(f"no agent runs in {where}: start one with fedge device run, or the whole system with fedge up")
