"""The page of releases, and the page of one."""

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from aggregator.console.figures import fleet
from aggregator.console.shell.context import TheConsole
from aggregator.console.shell.templating import page

SHOWN = 200  # releases on the page, the newest
router = APIRouter(include_in_schema=False)


@router.get("/releases")
def releases_page(request: Request, console: TheConsole) -> Response:
    """As it stands now."""
    return page(request, "releases.html", releases=fleet.releases(console)[:SHOWN], live=console.operator is not None)


@router.get("/releases/{release}")
def one_release(request: Request, console: TheConsole, release: str) -> Response:
    """One release."""
    found = fleet.release(console, release)
    if found is None:
        raise HTTPException(404, f"no release {release[:64]} is recorded")
    return page(request, "release.html", one=found)
