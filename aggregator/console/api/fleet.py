"""Devices and releases as JSON."""

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from aggregator.console.figures import fleet
from aggregator.console.shell.context import TheConsole
from aggregator.console.shell.wanted import TheWanted


class Device(BaseModel):
    """A device as it is listed. Times in UNIX seconds; from ``reported`` on null until it reports for the first time."""

    device: str
    state: str
    joined: float
    seen: float | None
    expires: float
    certificates: int
    trust: int | None
    revoked: float | None
    reason: str | None
    silent: bool
    reported: float | None
    release: str | None
    on_trial: bool | None
    given_up: str | None
    energy_source: str | None
    energy_sensor: str | None
    profile: str | None
    queue: int | None
    fedge: str | None


router = APIRouter(prefix="/api/v1")


@router.get("/devices", response_model=list[Device])
def devices(console: TheConsole, wanted: TheWanted) -> Response:
    """Every device that joined: state, last seen, until when its certificates last, and what it said of itself last."""
    # As it is: FastAPI's own walk over 10,000 of them takes longer than all the rest. The model is for the schema.
    return JSONResponse(fleet.devices(console, wanted))


@router.get("/devices/{device}", response_model=Device)
def one_device(console: TheConsole, device: str) -> Response:
    """One device."""
    found = None if console.operator is None else console.operator.device(device)
    if found is None:
        raise HTTPException(404, f"no device {device[:64]} has joined")
    return JSONResponse(found)


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
