"""Where a person's own server and devices stand: `~/.fedge`, or the folder that FEDGE_HOME or --home names."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from aggregator.settings import ServerHome
    from edge_client.settings import DeviceHome

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Folder that holds server/ and devices/.", show_default="$FEDGE_HOME or ~/.fedge"),
]


def fedge_home(home: Path | None) -> Path:
    """The folder that holds ``server/`` and ``devices/``."""
    chosen = home or Path(os.environ.get("FEDGE_HOME") or Path.home() / ".fedge")
    return chosen.expanduser().absolute()


def server_home(home: Path | None) -> "ServerHome":
    """The server's folder; --home may name it directly, too."""
    from aggregator.settings import ServerHome

    base = fedge_home(home)
    itself = ServerHome(base)
    return itself if itself.settings_file.is_file() else ServerHome(base / "server")


def device_home(home: Path | None, device_id: str) -> "DeviceHome":
    """The folder of a device on this machine."""
    from edge_client.settings import DeviceHome

    return DeviceHome(fedge_home(home) / "devices" / device_id)
