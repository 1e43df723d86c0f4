"""Rounds as JSON: the one form in which the command line and the console show what the store holds. Never writes."""

from typing import Any

from aggregator.store.database import Database
from aggregator.store.rows import RoundRow
from fedge.errors import InputError

_LARGEST_ROUND = 2**31 - 1  # what the column holds; a database driver fails on a larger number instead of finding nothing


class UnknownRoundError(InputError):
    """No such round is recorded."""


def round_entry(row: RoundRow) -> dict[str, Any]:
    """A round in short, as a list of rounds gives it."""
    return {
        "round": row.round,
        "state": row.state,
        "cohort": row.cohort,
        "survivors": row.survivors,
        "started": row.started,
        "finished": row.finished,
        "seconds": dict(row.seconds),
        "release": row.release,
    }


def round_document(database: Database, number: int) -> dict[str, Any]:
    """A round in full: its entry, its sessions with who began them, who left at which stage and why, and its metrics.

    Raises UnknownRoundError, which says what rounds there are.
    """
    row = database.round(number) if 0 <= number <= _LARGEST_ROUND else None
    if row is None:
        known = [entry.round for entry in database.rounds()]
        raise UnknownRoundError(
            f"no round {number} is recorded; " + (f"rounds {known[0]} to {known[-1]} are" if known else "none is")
        )
    cohorts = database.cohorts(number)
    return {
        **round_entry(row),
        "attempts": [
            {
                "purpose": attempt.purpose,
                "attempt": attempt.attempt,
                "outcome": attempt.outcome,
                "reason": attempt.reason,
                "cohort": attempt.cohort,
                "survivors": attempt.survivors,
                "devices": cohorts.get((attempt.purpose, attempt.attempt), []),
            }
            for attempt in database.attempts(number)
        ],
        "dropouts": [
            {
                "purpose": dropout.purpose,
                "attempt": dropout.attempt,
                "device": dropout.device_id,
                "stage": dropout.stage,
                "reason": dropout.reason,
            }
            for dropout in database.dropouts(number)
        ],
        "usd": _usd(database, number),
        "metrics": dict(row.metrics),
    }


def _usd(database: Database, number: int) -> dict[str, float]:
    """What a round cost, by kind, as far as this database knows."""
    spent: dict[str, float] = {}
    for (_, kind), amount in database.spent_by_round(number, number).get(number, {}).items():
        spent[kind.value] = spent.get(kind.value, 0.0) + amount
    return spent
