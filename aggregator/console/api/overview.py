"""The first page and the security page as JSON."""

from typing import Any

from fastapi import APIRouter

from aggregator.console.figures.overview import overview
from aggregator.console.figures.security import security
from aggregator.console.shell.context import TheConsole

router = APIRouter(prefix="/api/v1")


@router.get("/overview")
def the_overview(console: TheConsole) -> dict[str, Any]:
    """Fallback rate, costs, devices, the newest round, and what wants attention."""
    return overview(console)


@router.get("/security")
def the_security(console: TheConsole) -> dict[str, Any]:
    """Refused messages by error, revoked devices, and whether the signed sums hold."""
    return security(console)
