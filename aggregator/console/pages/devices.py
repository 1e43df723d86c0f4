"""The page of devices, a part at a time, and the page of one."""

from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from aggregator.console.figures import fleet
from aggregator.console.shell.context import TheConsole
from aggregator.console.shell.numbers import Start
from aggregator.console.shell.templating import page
from aggregator.console.shell.wanted import TheWanted
from aggregator.fleet.census import EVERYONE, Wanted

SHOWN = 200  # devices on a page
MOST = 2**62  # what SQLite takes for a number
router = APIRouter(include_in_schema=False)


@router.get("/devices")
def devices_page(
    request: Request, console: TheConsole, wanted: TheWanted, start: Start = 0
) -> Response:
    """As they stand now, from number ``start`` on."""
    start = min(start, MOST)
    total = 0 if console.operator is None else console.operator.matching(wanted)
    return page(
        request,
        "devices.html",
        devices=fleet.devices(console, wanted, start=start, count=SHOWN),
        total=total,
        start=start,
        later=_address(wanted, start + SHOWN) if start + SHOWN < total else None,
        live=console.operator is not None,
        all=wanted == EVERYONE,
        wanted=wanted,
    )


@router.get("/devices/{device}")
def one_device(request: Request, console: TheConsole, device: str) -> Response:
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
