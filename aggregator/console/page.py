"""The page of rounds as HTML: newest first, no script, nothing loaded but its own style sheet. Never reads the store."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from aggregator.store import RoundRow

SHOWN = 200  # rounds on the page; a page of thousands is slow to read, and the API gives them all
MISSING = "–"
# How a state or a certificate is coloured; the word itself always stands beside it.
_TONES = {"finished": "good", "certified": "good", "running": "open", "empirical": "open", "none": "open"}


@dataclass(frozen=True, slots=True)
class Line:
    """A round as the page shows it, all of it text but the numbers."""

    number: int
    state: str
    tone: str
    attempts: int
    cohort: int
    survivors: int
    finished: str
    finished_iso: str
    seconds: str
    certificate: str
    certificate_tone: str
    release: str | None


def render(rounds: Sequence[RoundRow], *, demo: bool = False) -> str:
    """The page for ``rounds``, given oldest first. ``demo``: say that the sums are not private."""
    lines = [_line(row) for row in rounds[-SHOWN:][::-1]]
    return _environment().get_template("rounds.html").render(lines=lines, total=len(rounds), demo=demo)


@cache
def style() -> str:
    """The style sheet that the page links to."""
    return _environment().get_template("console.css").render()


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("aggregator.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _line(row: RoundRow) -> Line:
    finished = None if row.finished is None else datetime.fromtimestamp(row.finished, UTC)
    said = row.metrics.get("certificate")
    certificate = said if isinstance(said, str) else MISSING
    return Line(
        number=row.round,
        state=row.state,
        tone=_TONES.get(row.state, "bad"),
        attempts=row.attempts,
        cohort=row.cohort,
        survivors=row.survivors,
        finished=MISSING if finished is None else finished.strftime("%Y-%m-%d %H:%M"),
        finished_iso="" if finished is None else finished.strftime("%Y-%m-%dT%H:%M:%SZ"),
        seconds=f"{sum(row.seconds.values()):.1f}" if row.seconds else MISSING,
        certificate=certificate,
        certificate_tone=_TONES.get(certificate, "open"),
        release=row.release,
    )
