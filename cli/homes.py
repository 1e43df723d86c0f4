"""Where a user's devices live: `~/.fedge/devices/<device_id>/`, or under FEDGE_HOME, or as --home says."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedge.errors import InputError

if TYPE_CHECKING:
    from edge_client.settings import DeviceHome

HomeOption = Annotated[
    Path | None, typer.Option(help="The device's folder; default: the one device under ~/.fedge/devices (or FEDGE_HOME).")
]


def fedge_home() -> Path:
    """FEDGE_HOME, or ~/.fedge."""
    return Path(os.environ.get("FEDGE_HOME") or Path.home() / ".fedge")


def device_homes() -> list["DeviceHome"]:
    """The devices of this user on this machine, by name."""
    from edge_client.settings import DeviceHome

    folder = fedge_home() / "devices"
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
    raise InputError(f"several devices in {fedge_home() / 'devices'} ({names}): give --home")


def agent_url(home: Path | None, url: str | None) -> str:
    """The local API to ask: --url, or that of the agent in --home, or of the first one that runs. Raises InputError."""
    from edge_client.running import RunningAgent

    if url is not None:
        return url
    homes = device_homes() if home is None else [device_home(home)]
    for one in homes:
        running = RunningAgent.of(one)
        if running is not None:
            return running.url
    where = str(home) if home is not None else str(fedge_home() / "devices")
    raise InputError(f"no agent runs in {where}: start one with fedge device run, or the whole system with fedge up")
