"""The page of releases."""

from fastapi import APIRouter, Request, Response

from aggregator.console.figures import fleet
from aggregator.console.shell.context import TheConsole
from aggregator.console.shell.templating import page

router = APIRouter(include_in_schema=False)


@router.get("/releases")
def releases_page(request: Request, console: TheConsole) -> Response:
    """As it stands now."""
    return page(request, "releases.html", releases=fleet.releases(console), live=console.operator is not None)
