"""The page of devices."""

from fastapi import APIRouter, Request, Response

from aggregator.console.figures import fleet
from aggregator.console.shell.context import TheConsole
from aggregator.console.shell.templating import page

router = APIRouter(include_in_schema=False)


@router.get("/devices")
def devices_page(request: Request, console: TheConsole) -> Response:
    """As it stands now."""
    return page(request, "devices.html", devices=fleet.devices(console), live=console.operator is not None)
