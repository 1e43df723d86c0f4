"""Devices and releases as JSON."""

from typing import Any

from fastapi import APIRouter

from aggregator.console.figures import fleet
from aggregator.console.shell.context import TheConsole

router = APIRouter(prefix="/api/v1")


@router.get("/devices")
def devices(console: TheConsole) -> list[dict[str, Any]]:
    """Every device that joined: state, last seen, until when its certificates last."""
    return fleet.devices(console)


@router.get("/releases")
def releases(console: TheConsole) -> list[dict[str, Any]]:
    """Every release, newest first: metrics, certificate, channel, and why it stands there."""
    return fleet.releases(console)
