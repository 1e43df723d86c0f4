"""The page of what was refused, and of signatures."""

from fastapi import APIRouter, Request, Response

from aggregator.console.figures.security import security
from aggregator.console.shell.context import TheConsole
from aggregator.console.shell.templating import page

router = APIRouter(include_in_schema=False)


@router.get("/security")
def security_page(request: Request, console: TheConsole) -> Response:
    """As it stands now."""
    return page(request, "security.html", found=security(console))
