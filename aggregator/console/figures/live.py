"""The round at hand, while it lasts: its phases with how many devices have reported, and what has happened lately."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from aggregator.store import Database, EventRow, PhaseRow

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
