"""The page of costs: who paid for what."""

from fastapi import APIRouter, Request, Response

from aggregator.console.figures.costs import latest_costs
from aggregator.console.shell.context import TheConsole
from aggregator.console.shell.templating import page

router = APIRouter(include_in_schema=False)


@router.get("/costs")
def costs_page(request: Request, console: TheConsole) -> Response:
    """As it stands now."""
    return page(request, "costs.html", costs=latest_costs(console.database, console.book), book=console.book.version)
