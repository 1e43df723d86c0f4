"""The page of rounds: newest first."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from aggregator.console.shell.context import TheConsole
from aggregator.console.shell.templating import MISSING, page
from aggregator.store import RoundRow

SHOWN = 200  # rounds on the page; a page of thousands is slow to read, and the API gives them all
# How a state or a certificate is coloured; the word itself always stands beside it.
_TONES = {"finished": "good", "certified": "good", "running": "open", "empirical": "open", "none": "open"}
router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Line:
    """A round as the page shows it."""

    number: int
    state: str
    tone: str
    attempts: int
    cohort: int
    survivors: int
    finished: float | None
    seconds: str
    certificate: str
    certificate_tone: str
    release: str | None


@router.get("/")
def rounds(request: Request, console: TheConsole) -> Response:
    """The latest rounds."""
    recorded = console.database.rounds()
    return page(request, "rounds.html", lines=_lines(recorded), total=len(recorded))


def _lines(recorded: Sequence[RoundRow]) -> list[Line]:
    """Newest first, of rounds given oldest first."""
    return [_line(row) for row in recorded[-SHOWN:][::-1]]


def _line(row: RoundRow) -> Line:
    said = row.metrics.get("certificate")
    certificate = said if isinstance(said, str) else MISSING
    return Line(
        number=row.round,
        state=row.state,
        tone=_TONES.get(row.state, "bad"),
        attempts=row.attempts,
        cohort=row.cohort,
        survivors=row.survivors,
        finished=row.finished,
        seconds=f"{sum(row.seconds.values()):.1f}" if row.seconds else MISSING,
        certificate=certificate,
        certificate_tone=_TONES.get(certificate, "open"),
        release=row.release,
    )
