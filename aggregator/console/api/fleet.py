"""Devices and releases as JSON."""

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from aggregator.console.figures import fleet
from aggregator.console.shell.context import TheConsole

router = APIRouter(prefix="/api/v1")


@router.get("/devices", response_model=list[dict[str, Any]])
def devices(console: TheConsole) -> Response:
    """Every device that joined: state, last seen, until when its certificates last."""
    # As it is: FastAPI's own walk over 10,000 of them takes longer than all the rest. The model is for the schema.
    return JSONResponse(fleet.devices(console))


@router.get("/releases")
def releases(console: TheConsole) -> list[dict[str, Any]]:
    """Every release, newest first: metrics, certificate, channel, and why it stands there."""
    return fleet.releases(console)
