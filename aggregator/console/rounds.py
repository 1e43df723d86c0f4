"""The page of rounds, newest first, and the page of one round: its timeline, sessions, dropouts and signed sums.

Rounds as JSON, and what the federation is.

A round as a line of time: its phases one after another, its sessions with how many had to answer, and its signed sums.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fastapi import APIRouter, Request, Response

from aggregator.console.context import Console, TheConsole
from aggregator.console.events import at_hand, going_round, spans
from aggregator.console.forms import BeforeRound
from aggregator.console.templating import MISSING, page
from aggregator.store import Database, RoundRow
from aggregator.store.serializers import round_document, round_entry
from fedge.secagg import MessageError, read_record, threshold

api = APIRouter(prefix="/api/v1")


@api.get("/federation")
def federation(console: TheConsole) -> dict[str, object]:
    """What the federation is called and asks, and whether its sums are private."""
    return dict(console.about)


@api.get("/rounds")
def list_rounds(console: TheConsole) -> list[dict[str, Any]]:
    """All rounds in short, oldest first."""
    return [round_entry(row) for row in console.database.rounds()]


@api.get("/rounds/{number}")
def get_round(console: TheConsole, number: int) -> dict[str, Any]:
    """One round with its sessions, what they needed, who left them, and whether their sums are signed."""
    return full_round(console.database, number, n_min=console.n_min, round_key=console.round_key)


# In the order in which they happen, with what an operator reads. What a round calls otherwise comes after them.
PHASES = {
    "check_in": "train and check in",
    "share_keys": "keys and shares",
    "masked_input": "masked upload",
    "consistency": "consistency",
    "unmask": "unmask",
    "publish": "evaluate and publish",
    "certificate": "certificate",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One phase: where it begins and how long it takes, as shares of the round's time in all phases."""

    name: str
    seconds: float
    start: float
    share: float


def bars(seconds: Mapping[str, float]) -> list[Bar]:
    """The phases of a round. A phase that several sessions went through is one bar of their summed time."""
    order = [*PHASES, *sorted(set(seconds) - set(PHASES))]
    total = sum(seconds.values())
    found: list[Bar] = []
    passed = 0.0
    for phase in order:
        if phase in seconds and total > 0:
            found.append(Bar(PHASES.get(phase, phase), seconds[phase], passed / total, seconds[phase] / total))
            passed += seconds[phase]
    return found


def needed_of(cohort: int, *, n_min: int | None) -> int:
    """How many devices of a session have to answer: the protocol's threshold, and the least sum that is taken."""
    return max(threshold(cohort) if cohort else 0, n_min or 0)


def full_round(
    database: Database, number: int, *, n_min: int | None = None, round_key: Ed25519PublicKey | None = None
) -> dict[str, Any]:
    """A round in full, with what its sessions needed and whether the round key signed their sums.

    ``signature`` is null where the key is not at hand. A round that is not recorded yet is given as far as it has come.
    Raises UnknownRoundError.
    """
    going = going_round(database, number)
    if going is not None:
        return going
    document = round_document(database, number)
    records = {record.attempt: record for record in database.records_of(number)}
    for attempt in document["attempts"]:
        attempt["needed"] = needed_of(attempt["cohort"], n_min=n_min)
        record = records.get(attempt["attempt"])
        attempt["record"] = None if record is None else _record(record.session, record.record, round_key)
    return document


def _record(session: str, record: bytes, round_key: Ed25519PublicKey | None) -> dict[str, Any]:
    if round_key is None:
        return {"session": session, "signature": None}
    try:
        read = read_record(record, round_key)
    except MessageError:
        return {"session": session, "signature": "invalid"}
    return {"session": session, "signature": "valid", "survivors": read.survivors, "result": read.result_blake2b.hex()}


SHOWN = 100  # rounds on a page
# How a state or a certificate is coloured; the word itself always stands beside it.
_TONES = {"finished": "good", "certified": "good", "running": "going", "empirical": "open", "none": "open"}
pages = APIRouter(include_in_schema=False)


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


@pages.get("/rounds")
def rounds_page(request: Request, console: TheConsole, before: BeforeRound = None) -> Response:
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


@pages.get("/rounds/{number}")
def round_page(request: Request, console: TheConsole, number: int) -> Response:
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
