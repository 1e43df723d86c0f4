"""Parts of pages that come anew whenever the stream of events says that something has changed."""

from fastapi import APIRouter, Request, Response

from aggregator.console.figures.live import spans
from aggregator.console.shell.context import TheConsole
from aggregator.console.shell.templating import page

router = APIRouter(prefix="/fragments", include_in_schema=False)
EVENTS = 12


@router.get("/at-hand")
def at_hand(request: Request, console: TheConsole) -> Response:
    """The round at hand and the latest events."""
    happenings = console.database.happenings
    number = happenings.newest_round()
    phases = happenings.phases(number) if number else []
    recorded = console.database.round(number) if number else None
    return page(
        request,
        "at_hand.html",
        number=number,
        running=number > 0 and (recorded is None or recorded.finished is None),
        bars=spans(phases, now=console.clock()),
        events=happenings.latest_events(EVENTS),
    )
