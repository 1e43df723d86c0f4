"""Every change of a release's state as one step of its rollout: from which state to which, by whom, to which share.

The registry numbers its changes in one transaction with the change itself, so that number names a step for good: whoever
copies steps elsewhere can always tell which are missing there.
"""

import sqlite3
from dataclasses import dataclass
from typing import Literal

from aggregator.fleet.tables import Tables

State = Literal["candidate", "active", "retired", "rejected", "rolled_back"]
Step = Literal["published", "canary", "promoted", "retired", "rejected", "withdrawn", "rolled_back", "reactivated"]
FEDGE = "fedge"
"""The actor where nobody asked: the rounds decide by themselves."""

QUERY = """
SELECT number, release_id, at, origin, state, share, reason, actor, CASE
    WHEN origin IS NULL THEN 'published'
    WHEN state = 'candidate' THEN 'canary'
    WHEN state = 'active' THEN CASE origin WHEN 'candidate' THEN 'promoted' ELSE 'reactivated' END
    WHEN state = 'rejected' AND release_id IN (SELECT release_id FROM canary) THEN 'withdrawn'
    ELSE state END AS step
FROM (
    SELECT *, lag(state) OVER (PARTITION BY release_id ORDER BY number) AS origin FROM move
    WHERE :release IS NULL OR release_id = :release
)
WHERE number > :after ORDER BY number
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One step. ``origin`` None: it was not there before. ``share``: of the devices, while on the canary. ``actor`` None:
    from before that was kept. ``withdrawn``: rejected after devices may have run it.
    """

    number: int
    release_id: str
    at: float
    step: Step
    origin: State | None
    state: State
    share: float | None
    reason: str
    actor: str | None


def add_columns(tables: Tables) -> None:
    """Gives a registry from before who acted, and to which share, was kept the two columns; else changes nothing."""
    with tables.read() as connection:
        if _has_both(connection.execute("PRAGMA table_info(move)").fetchall()):
            return
    with tables.write() as connection:
        if not _has_both(connection.execute("PRAGMA table_info(move)").fetchall()):
            connection.execute("ALTER TABLE move ADD COLUMN share REAL")
            connection.execute("ALTER TABLE move ADD COLUMN actor TEXT")


def _has_both(columns: list[sqlite3.Row]) -> bool:
    return {"share", "actor"} <= {column["name"] for column in columns}
