"""Where a person's own server stands: in `~/.fedge`, or the folder that FEDGE_HOME or --home names."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import homes

if TYPE_CHECKING:
    from aggregator.settings import ServerHome

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Folder that holds server/ and devices/.", show_default="$FEDGE_HOME or ~/.fedge"),
]


def fedge_home(home: Path | None) -> Path:
    """The folder that holds ``server/`` and ``devices/``."""
    return (home or homes.fedge_home()).expanduser().absolute()


def server_home(home: Path | None) -> "ServerHome":
    """The server's folder; --home may name it directly, too."""
    from aggregator.settings import ServerHome

    base = fedge_home(home)
    itself = ServerHome(base)
    return itself if itself.settings_file.is_file() else ServerHome(base / "server")
