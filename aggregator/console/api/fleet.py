"""Devices and releases as JSON."""

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from aggregator.console.figures import fleet
from aggregator.console.shell.context import TheConsole

router = APIRouter(prefix="/api/v1")


@router.get("/devices", response_model=list[dict[str, Any]])
def devices(console: TheConsole) -> Response:
    """Every device that joined: state, last seen, until when its certificates last."""
    # As it is: FastAPI's own walk over 10,000 of them takes longer than all the rest. The model is for the schema.
    return JSONResponse(fleet.devices(console))


@router.get("/releases", response_model=list[dict[str, Any]])
def releases(console: TheConsole) -> Response:
    """Every release, newest first: metrics, certificate, channel, and why it stands there."""
    return JSONResponse(fleet.releases(console))  # as above: of a thousand, the walk takes longer than all the rest


@router.get("/releases/{release}")
def one_release(console: TheConsole, release: str) -> dict[str, Any]:
    """One release with its ``history``: each step of its rollout, oldest first: from where to where, by whom and why."""
    found = fleet.release(console, release)
    if found is None:
        raise HTTPException(404, f"no release {release[:64]} is recorded")
    return found
