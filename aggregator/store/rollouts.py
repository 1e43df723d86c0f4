"""How each release reached the fleet, step by step: published, on the canary, promoted, taken back; by whom and why.

The registry of releases is what counts; these rows are its copy for operators, under the registry's own numbers.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from aggregator.store.models import Rollout

Transaction = Callable[[str], AbstractContextManager[Session]]
_ROWS_AT_ONCE = 1_000
_ONCE = ["run_id", "number", "release_id", "at"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRow:
    """One step, as the registry has it under ``number``. ``origin``: the state before, None where it was not there yet;
    ``share`` of the devices while on the canary; ``actor``: an operator, or "fedge" itself; None: it was not kept.
    """

    number: int
    release_id: str
    at: float
    step: str
    origin: str | None
    state: str
    share: float | None
    reason: str
    actor: str | None


class RolloutStore:
    """Of one run. ``read`` and ``write`` begin a transaction for what is said in words."""

    def __init__(self, read: Transaction, write: Transaction, run_id: int) -> None:
        self._read = read
        self._write = write
        self._run_id = run_id

    def add(self, rows: Sequence[RolloutRow]) -> None:
        """Add steps, oldest first; one that is there (its number, release and time) stays as it is."""
        values = [{"run_id": self._run_id, **asdict(row)} for row in rows]
        if not values:
            return
        with self._write("add to the rollouts") as session:
            postgres = session.get_bind().dialect.name == "postgresql"
            added = (postgresql.insert(Rollout) if postgres else sqlite.insert(Rollout)).on_conflict_do_nothing(
                index_elements=_ONCE
            )
            for begin in range(0, len(values), _ROWS_AT_ONCE):
                session.execute(added, values[begin : begin + _ROWS_AT_ONCE])

    def newest(self) -> RolloutRow | None:
        """The step that was added last."""
        wanted = select(Rollout).where(Rollout.run_id == self._run_id).order_by(Rollout.id.desc()).limit(1)
        with self._read("read the newest rollout") as session:
            found = session.scalar(wanted)
            return None if found is None else _value(found)

    def of(self, release_id: str) -> list[RolloutRow]:
        """The steps of a release, oldest first."""
        wanted = select(Rollout).where(Rollout.run_id == self._run_id, Rollout.release_id == release_id)
        with self._read("read a rollout") as session:
            return [_value(row) for row in session.scalars(wanted.order_by(Rollout.id))]


def _value(row: Rollout) -> RolloutRow:
    return RolloutRow(**{name: getattr(row, name) for name in RolloutRow.__slots__})
