"""The first page: who answers, what it costs, and what wants attention."""

from fastapi import APIRouter, Request, Response

from aggregator.console.figures import overview
from aggregator.console.shell.context import TheConsole
from aggregator.console.shell.templating import page

router = APIRouter(include_in_schema=False)


@router.get("/")
def overview_page(request: Request, console: TheConsole) -> Response:
    """As it stands now."""
    return page(request, "overview.html", found=overview.overview(console))
