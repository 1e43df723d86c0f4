"""The page of rounds, newest first, and the page of one round: its timeline, sessions, dropouts and signed sums."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from aggregator.console.figures.live import at_hand, spans
from aggregator.console.figures.timeline import bars, full_round
from aggregator.console.shell.context import Console, TheConsole
from aggregator.console.shell.numbers import BeforeRound
from aggregator.console.shell.templating import MISSING, page
from aggregator.store import RoundRow

SHOWN = 100  # rounds on a page
# How a state or a certificate is coloured; the word itself always stands beside it.
_TONES = {"finished": "good", "certified": "good", "running": "going", "empirical": "open", "none": "open"}
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


@router.get("/rounds")
def rounds(request: Request, console: TheConsole, before: BeforeRound = None) -> Response:
    """The latest rounds, or those before one."""
    found = console.database.latest_rounds(SHOWN, before=before)
    oldest = found[0].round if found else 0
    return page(
        request,
        "rounds.html",
        lines=_lines(found),
        older=oldest if oldest > 1 else None,
        before=before,
        running=_running(console) if before is None else None,
        live=console.operator is not None,
        controls=console.database.controls.get(),
    )


@router.get("/rounds/{number}")
def one_round(request: Request, console: TheConsole, number: int) -> Response:
    """One round."""
    found = full_round(console.database, number, n_min=console.n_min, round_key=console.round_key)
    phases = console.database.happenings.phases(number)
    return page(
        request,
        "round.html",
        round=found,
        tone=_TONES.get(found["state"], "bad"),
        bars=spans(phases, now=console.clock()) if phases else bars(found["seconds"]),
        exact=bool(phases),
        newest=max(console.database.latest_round(), console.database.happenings.newest_round()),
        running=found["finished"] is None,
        phase=next((phase for phase in reversed(phases) if phase.expected), None),
    )


def _running(console: Console) -> int | None:
    """The round at hand, where it goes on and is not recorded yet."""
    now = at_hand(console.database)
    return now["round"] if now is not None and now["running"] and now["round"] > console.database.latest_round() else None


def _lines(recorded: Sequence[RoundRow]) -> list[Line]:
    """Newest first, of rounds given oldest first."""
    return [_line(row) for row in reversed(recorded)]


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
