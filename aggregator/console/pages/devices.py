"""The page of devices, a part at a time, and the page of one."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.exceptions import HTTPException

from aggregator.console.figures import fleet
from aggregator.console.shell.context import TheConsole
from aggregator.console.shell.templating import page

SHOWN = 200  # devices on a page
router = APIRouter(include_in_schema=False)


@router.get("/devices")
def devices_page(request: Request, console: TheConsole, start: Annotated[int, Query(ge=0)] = 0) -> Response:
    """As they stand now, from number ``start`` on."""
    found = fleet.devices(console)
    return page(
        request,
        "devices.html",
        devices=found[start : start + SHOWN],
        total=len(found),
        start=start,
        later=start + SHOWN if start + SHOWN < len(found) else None,
        live=console.operator is not None,
    )


@router.get("/devices/{device}")
def one_device(request: Request, console: TheConsole, device: str) -> Response:
    """One device."""
    found = next((one for one in fleet.devices(console) if one["device"] == device), None)
    if found is None:
        raise HTTPException(404, f"no device {device[:64]} has joined")
    return page(request, "device.html", device=found)
