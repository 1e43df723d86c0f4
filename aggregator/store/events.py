"""How the round at hand goes: its phases while they last, and events in the order of their numbers, for those who watch.

Written by the rounds process, read by the console and `fedge rounds watch`. What is old goes: see `retention`.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from aggregator.store.models import Event, RoundPhase

Transaction = Callable[[str], AbstractContextManager[Session]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseRow:
    """A phase of one attempt. ``finished`` None: it goes on. ``reported`` of ``expected`` so far, ``needed`` at least."""

    id: int
    round: int
    attempt: int
    purpose: str
    phase: str
    started: float
    finished: float | None
    expected: int
    reported: int
    needed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """Something that happened: what kind of thing, one line about it, and more for programs. ``id`` only ever grows."""

    id: int
    at: float
    kind: str
    round: int
    text: str
    detail: Mapping[str, Any]


class Happenings:
    """Of one run. ``read`` and ``write`` begin a transaction for what is said in words."""

    def __init__(self, read: Transaction, write: Transaction, run_id: int) -> None:
        self._read = read
        self._write = write
        self._run_id = run_id

    def begin_phase(
        self, *, round_number: int, attempt: int, purpose: str, phase: str, at: float, expected: int, needed: int
    ) -> int:
        """A phase begins; returns the number to report under."""
        with self._write("begin a phase") as session:
            row = RoundPhase(
                run_id=self._run_id,
                round=round_number,
                attempt=attempt,
                purpose=purpose,
                phase=phase,
                started=at,
                finished=None,
                expected=expected,
                reported=0,
                needed=needed,
            )
            session.add(row)
            session.flush()
            return row.id

    def note_phase(self, phase: int, *, reported: int, finished: float | None = None) -> None:
        """So many have reported; with ``finished`` the phase is over."""
        values = {"reported": reported} if finished is None else {"reported": reported, "finished": finished}
        with self._write("note a phase") as session:
            session.execute(update(RoundPhase).where(RoundPhase.id == phase).values(**values))

    def close_phases(self, *, at: float) -> int:
        """End what a crash left open; returns how many phases that were."""
        still = (RoundPhase.run_id == self._run_id) & RoundPhase.finished.is_(None)
        with self._write("close what a crash left open") as session:
            count = session.scalar(select(func.count()).select_from(RoundPhase).where(still)) or 0
            session.execute(update(RoundPhase).where(still).values(finished=at))
            return count

    def phases(self, round_number: int) -> list[PhaseRow]:
        """The phases of a round in their order."""
        wanted = select(RoundPhase).where(RoundPhase.run_id == self._run_id, RoundPhase.round == round_number)
        with self._read("read the phases") as session:
            return [_phase(row) for row in session.scalars(wanted.order_by(RoundPhase.id))]

    def newest_round(self) -> int:
        """The round that the newest phase belongs to, 0 before the first."""
        newest = select(RoundPhase.round).where(RoundPhase.run_id == self._run_id).order_by(RoundPhase.id.desc()).limit(1)
        with self._read("read the newest phase") as session:
            return session.scalar(newest) or 0

    def add_event(
        self, kind: str, text: str, *, at: float, round_number: int = 0, detail: Mapping[str, Any] | None = None
    ) -> int:
        """Something happened; returns its number."""
        line = " ".join(text.split())
        with self._write("add an event") as session:
            row = Event(run_id=self._run_id, at=at, kind=kind, round=round_number, text=line, detail=dict(detail or {}))
            session.add(row)
            session.flush()
            return row.id

    def events(self, *, after: int = 0, limit: int = 200, kinds: Collection[str] | None = None) -> list[EventRow]:
        """Events numbered above ``after``, oldest first, at most ``limit``."""
        wanted = select(Event).where(Event.run_id == self._run_id, Event.id > after)
        if kinds is not None:
            wanted = wanted.where(Event.kind.in_(kinds))
        with self._read("read the events") as session:
            return [_event(row) for row in session.scalars(wanted.order_by(Event.id).limit(limit))]

    def latest_events(self, count: int, *, kinds: Collection[str] | None = None) -> list[EventRow]:
        """The newest ``count`` events, newest first."""
        wanted = select(Event).where(Event.run_id == self._run_id)
        if kinds is not None:
            wanted = wanted.where(Event.kind.in_(kinds))
        with self._read("read the events") as session:
            return [_event(row) for row in session.scalars(wanted.order_by(Event.id.desc()).limit(count))]

    def newest_event(self) -> int:
        """The number of the newest event, 0 before the first."""
        newest = select(Event.id).where(Event.run_id == self._run_id).order_by(Event.id.desc()).limit(1)  # max() would scan
        with self._read("read the newest event") as session:
            return session.scalar(newest) or 0


def _phase(row: RoundPhase) -> PhaseRow:
    return PhaseRow(**{name: getattr(row, name) for name in PhaseRow.__slots__})


def _event(row: Event) -> EventRow:
    return EventRow(id=row.id, at=row.at, kind=row.kind, round=row.round, text=row.text, detail=dict(row.detail))
