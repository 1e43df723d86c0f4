"""Devices and releases as the pages show them. A recorded run has releases and no devices to speak of.

Devices and releases as JSON.

The page of devices, a part at a time, and the page of one.

Which devices a page or the API is asked for: ``?release=HEX``, ``?waiting=1``, ``?silent=1``, alone or together.
"""

from collections import Counter
from typing import Annotated, Any, TypedDict
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from aggregator.admin import Operator
from aggregator.console.context import Console, TheConsole
from aggregator.console.forms import Start
from aggregator.console.templating import page
from aggregator.fleet.inventory import EVERYONE, Wanted
from fedge.errors import FedgeError


def wanted_devices(
    release: Annotated[str | None, Query(pattern="^[0-9a-f]{64}$", description="That answer with this release.")] = None,
    waiting: Annotated[bool, Query(description="With questions that wait for central.")] = False,
    silent: Annotated[bool, Query(description="Members that were not heard of for ten minutes.")] = False,
) -> Wanted:
    """What was asked for."""
    return Wanted(release=release, waiting=waiting, silent=silent)


TheWanted = Annotated[Wanted, Depends(wanted_devices)]


class Fleet(TypedDict):
    """How the members stand that reported lately, by their own word."""

    members: int
    reporting: int
    silent: int
    on_active_release: int
    share_on_active_release: float | None
    devices_on_version: dict[str, int]
    energy_sources: dict[str, int]
    energy_measured: int
    queue: int
    waiting: int


def device_list(
    console: Console, wanted: Wanted = EVERYONE, *, start: int = 0, count: int | None = None
) -> list[dict[str, Any]]:
    """Devices that joined, members first, then by id: all that are ``wanted``, or ``count`` from ``start`` on."""
    if console.operator is None:
        return []
    return console.operator.devices(wanted, members_first=True, start=start, count=count)


def standing(console: Console) -> Fleet | None:
    """What devices say of themselves, added up; None over a recorded run. A release that was never made here counts as
    version "unknown", none at all as "none".
    """
    if console.operator is None:
        return None
    found = console.operator.standing()
    registered = _versions(console.operator) if found.releases else {}
    by_version: Counter[str] = Counter()
    for release, number in found.releases.items():
        by_version[registered.get(release, "unknown") if release else "none"] += number
    active = active_release(console)
    on_active = found.releases.get(active, 0) if active is not None else 0
    return {
        "members": found.members,
        "reporting": found.reporting,
        "silent": found.silent,
        "on_active_release": on_active,
        "share_on_active_release": on_active / found.reporting if found.reporting and active is not None else None,
        "devices_on_version": dict(sorted(by_version.items())),
        "energy_sources": dict(found.supplies),
        "energy_measured": found.measured,
        "queue": found.queue,
        "waiting": found.waiting,
    }


def active_release(console: Console) -> str | None:
    """What devices should run, where that is known."""
    if console.operator is None:
        return None
    try:
        return console.operator.registry().active()
    except FedgeError:
        return None


def _versions(operator: Operator) -> dict[str, str]:
    """Versions by release."""
    try:
        return {one.release_id: str(one.version) for one in operator.registry().releases()}
    except FedgeError:
        return {}


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


api = APIRouter(prefix="/api/v1")


@api.get("/devices", response_model=list[Device])
def list_devices(console: TheConsole, wanted: TheWanted) -> Response:
    """Every device that joined: state, last seen, until when its certificates last, and what it said of itself last."""
    # As it is: FastAPI's own walk over 10,000 of them takes longer than all the rest. The model is for the schema.
    return JSONResponse(device_list(console, wanted))


@api.get("/devices/{device}", response_model=Device)
def get_device(console: TheConsole, device: str) -> Response:
    """One device."""
    found = None if console.operator is None else console.operator.device(device)
    if found is None:
        raise HTTPException(404, f"no device {device[:64]} has joined")
    return JSONResponse(found)


SHOWN = 200  # devices on a page
MOST = 2**62  # what SQLite takes for a number
pages = APIRouter(include_in_schema=False)


@pages.get("/devices")
def devices_page(
    request: Request, console: TheConsole, wanted: TheWanted, start: Start = 0
) -> Response:
    """As they stand now, from number ``start`` on."""
    start = min(start, MOST)
    total = 0 if console.operator is None else console.operator.matching(wanted)
    return page(
        request,
        "devices.html",
        devices=device_list(console, wanted, start=start, count=SHOWN),
        total=total,
        start=start,
        later=_address(wanted, start + SHOWN) if start + SHOWN < total else None,
        live=console.operator is not None,
        all=wanted == EVERYONE,
        wanted=wanted,
    )


@pages.get("/devices/{device}")
def device_page(request: Request, console: TheConsole, device: str) -> Response:
    """One device."""
    found = None if console.operator is None else console.operator.device(device)
    if found is None:
        raise HTTPException(404, f"no device {device[:64]} has joined")
    return page(request, "device.html", device=found)


def _address(wanted: Wanted, start: int) -> str:
    """Where the page goes on."""
    given = {
        "release": wanted.release or "",
        "waiting": "1" if wanted.waiting else "",
        "silent": "1" if wanted.silent else "",
    }
    return "/devices?" + urlencode({**{name: value for name, value in given.items() if value}, "start": start})
