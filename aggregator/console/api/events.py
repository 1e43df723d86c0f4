"""What happens, as it happens: events as JSON, and as a stream that goes on where a reader was (server-sent events)."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from aggregator.console.auth.viewer import is_still_known
from aggregator.console.figures.live import at_hand, fingerprint
from aggregator.console.shell.context import Console, TheConsole
from aggregator.console.shell.numbers import MAX_NUMBER
from aggregator.store import StoreError

POLL_S = 1.0
KEEP_ALIVE_S = 15.0
BUSY_RETRY_MS = 30_000
MAX_DIGITS = 18
router = APIRouter(prefix="/api/v1")


@router.get("/events")
def events(
    console: TheConsole,
    after: Annotated[int, Query(ge=0, le=MAX_NUMBER)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> list[dict[str, Any]]:
    """Events numbered above ``after``, oldest first."""
    return [asdict(row) for row in console.database.happenings.events(after=after, limit=limit)]


@router.get("/rounds-at-hand")
def round_at_hand(console: TheConsole) -> dict[str, Any] | None:
    """The round at hand with its phases; null before the first."""
    return at_hand(console.database)


@router.get("/events/stream")
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
