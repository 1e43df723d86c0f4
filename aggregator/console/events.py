"""What happens, as it happens: events as JSON, and as a stream that goes on where a reader was (server-sent events).

The round at hand, while it lasts: its phases with how many devices have reported, and what has happened lately.

Parts of pages that come anew whenever the stream of events says that something has changed.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from aggregator.console.auth.dependencies import is_still_known
from aggregator.console.context import Console, TheConsole
from aggregator.console.forms import MAX_NUMBER
from aggregator.console.templating import page
from aggregator.store import Database, EventRow, PhaseRow, StoreError

LATEST_LEFT = 500
"""Devices that left which are looked at for those of the round at hand."""
_LARGEST_ROUND = 2**31 - 1

WORDS = {
    "select": "select",
    "train": "train",
    "keys": "keys",
    "shares": "shares",
    "masked_upload": "masked upload",
    "consistency": "consistency",
    "unmask": "unmask",
    "evaluate": "evaluate",
    "publish": "publish",
}


def at_hand(database: Database) -> dict[str, Any] | None:
    """The round that the newest phase belongs to; None before the first. ``running``: it is not recorded as ended yet."""
    number = database.happenings.newest_round()
    if number == 0:
        return None
    row = database.round(number)
    return {
        "round": number,
        "running": row is None or row.finished is None,
        "state": "running" if row is None else row.state,
        "phases": [asdict(phase) for phase in database.happenings.phases(number)],
    }


def going_round(database: Database, number: int) -> dict[str, Any] | None:
    """A round that is not recorded as ended yet, in the form of one that is, as far as it has come; else None.

    ``cohort`` and ``survivors`` are those of the newest phase in which devices have a part.
    """
    phases = database.happenings.phases(number) if 0 < number <= _LARGEST_ROUND else []
    if not phases or database.round(number) is not None:
        return None
    of_devices = [phase for phase in phases if phase.expected]
    left = database.happenings.latest_events(LATEST_LEFT, kinds=("device.left",))
    return {
        "round": number,
        "state": "running",
        "cohort": of_devices[-1].expected if of_devices else 0,
        "survivors": of_devices[-1].reported if of_devices else 0,
        "started": phases[0].started,
        "finished": None,
        "seconds": {},
        "release": None,
        "attempts": [],
        "dropouts": [_left(event) for event in reversed(left) if event.round == number],
        "usd": {},
        "metrics": {},
    }


def _left(event: EventRow) -> dict[str, Any]:
    """Who left, as a recorded round has it."""
    said = event.detail
    return {
        "purpose": str(said.get("purpose", "")),
        "attempt": said.get("attempt", 0),
        "device": str(said.get("device", "")),
        "stage": str(said.get("stage", "")),
        "reason": event.text.partition(": ")[2],
    }


def spans(phases: Sequence[PhaseRow], *, now: float) -> list[dict[str, Any]]:
    """Phases as bars on one line of time: start and share of the whole, and the margin in words."""
    if not phases:
        return []
    begin = min(phase.started for phase in phases)
    end = max(now if phase.finished is None else phase.finished for phase in phases)
    whole = max(end - begin, 1e-9)
    found = []
    for phase in phases:
        finished = now if phase.finished is None else phase.finished
        found.append(
            {
                "name": f"{WORDS.get(phase.phase, phase.phase)}, {phase.purpose} {phase.attempt}",
                "seconds": finished - phase.started,
                "start": (phase.started - begin) / whole,
                "share": (finished - phase.started) / whole,
                "open": phase.finished is None,
                "margin": margin(phase),
            }
        )
    return found


def margin(phase: PhaseRow) -> str:
    """As an operator reads it: how many have reported, and how many it takes. Empty where devices have no part."""
    if not phase.expected:
        return ""
    return f"{phase.reported} of {phase.expected} reported, at least {phase.needed} needed"


def fingerprint(database: Database) -> tuple[int, int, int, int]:
    """Changes whenever something happens that a page would show otherwise."""
    number = database.happenings.newest_round()
    phases = database.happenings.phases(number) if number else []
    reported = sum(phase.reported for phase in phases) + sum(phase.finished is not None for phase in phases)
    return database.happenings.newest_event(), database.latest_round(), phases[-1].id if phases else 0, reported


pages = APIRouter(prefix="/fragments", include_in_schema=False)
EVENTS = 12


@pages.get("/at-hand")
def current_round_fragment(request: Request, console: TheConsole) -> Response:
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


POLL_S = 1.0
KEEP_ALIVE_S = 15.0
BUSY_RETRY_MS = 30_000
MAX_DIGITS = 18
api = APIRouter(prefix="/api/v1")


@api.get("/events")
def events(
    console: TheConsole,
    after: Annotated[int, Query(ge=0, le=MAX_NUMBER)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> list[dict[str, Any]]:
    """Events numbered above ``after``, oldest first."""
    return [asdict(row) for row in console.database.happenings.events(after=after, limit=limit)]


@api.get("/rounds-at-hand")
def round_at_hand(console: TheConsole) -> dict[str, Any] | None:
    """The round at hand with its phases; null before the first."""
    return at_hand(console.database)


@api.get("/events/stream")
async def stream(
    request: Request,
    console: TheConsole,
    after: Annotated[int | None, Query(ge=0, le=MAX_NUMBER)] = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """Each event once, under its number as ``id``, from the one after ``Last-Event-ID`` (or ``after``) on; without either,
    the new ones. A ``change`` event says that a page would look different now. The stream ends with its reader's login, and
    a reader beyond the most that are served at once is asked to come again later.
    """
    told = last_event_id or ""
    seen = int(told) if told.isascii() and told.isdigit() and len(told) <= MAX_DIGITS else after
    return StreamingResponse(
        _told(request, console, seen),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _told(request: Request, console: Console, seen: int | None) -> AsyncIterator[str]:
    if not console.readers.acquire(blocking=False):
        yield f"retry: {BUSY_RETRY_MS}\n\n"
        return
    try:
        async for part in _followed(request, console, seen):
            yield part
    finally:
        console.readers.release()


async def _followed(request: Request, console: Console, seen: int | None) -> AsyncIterator[str]:
    happenings = console.database.happenings
    before: object = None
    quiet_s = 0.0
    yield "retry: 2000\n\n"
    while not await request.is_disconnected():
        try:
            if not await asyncio.to_thread(is_still_known, request):
                return
            if seen is None:
                seen = await asyncio.to_thread(happenings.newest_event)
            fresh = await asyncio.to_thread(lambda after: happenings.events(after=after), seen)
            now = await asyncio.to_thread(fingerprint, console.database)
        except StoreError:  # the reader tries again by itself, and goes on where it was
            return
        for row in fresh:
            seen = row.id
            yield f"id: {row.id}\nevent: {row.kind.partition('.')[0]}\ndata: {json.dumps(asdict(row))}\n\n"
        quiet_s += POLL_S
        if now != before:
            yield f"event: change\ndata: {json.dumps(now)}\n\n"
            before, quiet_s = now, 0.0
        elif quiet_s >= KEEP_ALIVE_S:
            yield ": still here\n\n"
            quiet_s = 0.0
        await asyncio.sleep(POLL_S)
