"""What an operator wants of the rounds: running, paused or stopped, another cohort or period, or a round now.

A desired state, one row a run: the rounds process reads it again and again and goes by it from its next round on.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy.orm import Session

from aggregator.store.models import Control

Transaction = Callable[[str], AbstractContextManager[Session]]
Wanted = Literal["running", "paused", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """``cohort`` and ``period_s`` None: as the settings say. ``asked_now``: how often a round was asked for at once.

    ``readmissions``: by device, the number of the exclusion (`aggregator.rounds.suspicion.Exclusion.times`) that is lifted.
    """

    state: Wanted = "running"
    cohort: int | None = None
    period_s: float | None = None
    asked_now: int = 0
    readmissions: Mapping[str, int] = field(default_factory=dict)
    by: str = ""
    at: float = 0.0


class ControlStore:
    """Of one run. ``read`` and ``write`` begin a transaction for what is said in words."""

    def __init__(self, read: Transaction, write: Transaction, run_id: int) -> None:
        self._read = read
        self._write = write
        self._run_id = run_id

    def get(self) -> Controls:
        """As they stand; those of a run that nobody has touched are the defaults."""
        with self._read("read the controls") as session:
            return _value(session.get(Control, self._run_id))

    def change(self, change: Callable[[Controls], Controls]) -> Controls:
        """Replace them by ``change`` of what they are, whoever else does so at the same time. Returns what stands now."""
        with self._write("change the controls") as session:
            new = change(_value(session.get(Control, self._run_id, with_for_update=True)))
            session.merge(
                Control(
                    run_id=self._run_id,
                    state=new.state,
                    cohort=new.cohort,
                    period_s=new.period_s,
                    asked_now=new.asked_now,
                    readmissions=dict(new.readmissions),
                    changed_by=new.by,
                    at=new.at,
                )
            )
            return new


def _value(row: Control | None) -> Controls:
    if row is None:
        return Controls()
    state: Wanted = "paused" if row.state == "paused" else "stopped" if row.state == "stopped" else "running"
    return Controls(
        state=state,
        cohort=row.cohort,
        period_s=row.period_s,
        asked_now=row.asked_now,
        readmissions=row.readmissions or {},
        by=row.changed_by,
        at=row.at,
    )
