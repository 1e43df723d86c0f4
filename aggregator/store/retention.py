"""What is forgotten and when: rows of the ledger, events, rounds' phases, cohorts and dropouts, once they are old enough.

In small transactions, so that nobody waits long for the database. Rounds themselves, sums of the ledger, releases and their
rollouts, certificates, signed records and the audit stay for good.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from aggregator.store.models import Cohort, Dropout, Event, Ledger, Round, RoundPhase

Transaction = Callable[[str], AbstractContextManager[Session]]
BATCH = 5_000
REST = 2.0
DAY_S = 24 * 3600.0
_Pruned = type[Ledger] | type[Event] | type[RoundPhase] | type[Cohort] | type[Dropout]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """For how many days each is kept; 0: for good. ``rounds_days``: phases, cohorts and dropouts of a
    round that began before.
    """

    ledger_days: float
    events_days: float
    rounds_days: float


class Retention:
    """Of one run. ``read`` and ``write`` begin a transaction for what is said in words."""

    def __init__(self, read: Transaction, write: Transaction, run_id: int) -> None:
        self._read = read
        self._write = write
        self._run_id = run_id

    def forget(
        self,
        keep: Keep,
        *,
        now: float,
        batch: int = BATCH,
        stopped: Callable[[], bool] = lambda: False,
        rest: Callable[[float], object] = time.sleep,
    ) -> dict[str, int]:
        """Forget all that is older than ``keep`` says, ``batch`` rows at a time, until ``stopped``. Rows gone by table.

        ``rest``: waits so many seconds. After each batch it is let rest twice as long as that took, so that pages and rounds
        have most of the machine.
        """
        gone: dict[str, int] = {}
        for model, condition in self._old(keep, now):
            count = -1
            while count and not stopped():
                begun = time.monotonic()
                count = self._forget_some(model, condition, batch)
                if count == batch:
                    rest(REST * (time.monotonic() - begun))
                if count:
                    gone[model.__tablename__] = gone.get(model.__tablename__, 0) + count
        return gone

    def _old(self, keep: Keep, now: float) -> list[tuple[_Pruned, ColumnElement[bool]]]:
        found: list[tuple[_Pruned, ColumnElement[bool]]] = []
        if keep.ledger_days:
            found.append((Ledger, Ledger.at < now - keep.ledger_days * DAY_S))
        if keep.events_days:
            found.append((Event, Event.at < now - keep.events_days * DAY_S))
        if keep.rounds_days:
            first_kept = self._first_round_since(now - keep.rounds_days * DAY_S)
            found += [(model, model.round < first_kept) for model in (RoundPhase, Cohort, Dropout)]
        return found

    def _first_round_since(self, time: float) -> int:
        """The first round that began at ``time`` or later; the one after the newest where none did."""
        ours = Round.run_id == self._run_id
        with self._read("read the rounds' times") as session:
            first = session.scalar(select(func.min(Round.round)).where(ours, Round.started >= time))
            if first is not None:
                return first
            return (session.scalar(select(func.max(Round.round)).where(ours)) or 0) + 1

    def _forget_some(self, model: _Pruned, condition: ColumnElement[bool], batch: int) -> int:
        with self._write(f"forget old rows of {model.__tablename__}") as session:
            old = list(session.scalars(select(model.id).where(model.run_id == self._run_id, condition).limit(batch)))
            if old:
                session.execute(delete(model).where(model.id.in_(old)))
            return len(old)
