"""The rollouts of the operators' record, copied from the registry: each of its changes is one row, exactly once.

The registry writes a change and its number in one transaction. The record is brought up to that number after each change,
and when the rounds or the console start: whoever dies in between, the next look adds what is missing, and a row that is
there is not added again. A record that cannot be written costs the change nothing.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict

from aggregator.releases.registry import ReleaseRegistry
from aggregator.releases.transitions import Transition
from aggregator.store import Database, RolloutRow
from fedge.errors import FedgeError

_log = logging.getLogger(__name__)


class RolloutRecord:
    """Follows ``registry``; ``open_database`` gives the database to write to each time there may be something to add."""

    def __init__(self, registry: ReleaseRegistry, open_database: Callable[[], AbstractContextManager[Database]]) -> None:
        self._registry = registry
        self._open = open_database
        self._known: int | None = None

    def follow(self) -> None:
        """Add what is missing. A failure is said in the log and made good by the next look."""
        if self._known is not None and not self._registry.transitions(after=self._known):
            return  # a certificate, say: no step
        try:
            with self._open() as database:
                self.catch_up(database)
        except FedgeError as error:
            _log.error("the record of rollouts waits for the next look: %s", error)

    def catch_up(self, database: Database) -> None:
        """Add what is missing to ``database``. Raises StoreError."""
        newest = database.rollouts.newest()
        found = self._registry.transitions(after=0 if newest is None else newest.number - 1)
        if newest is not None and (not found or _row(found[0]) != newest):
            found = self._registry.transitions()  # another registry, or one from a backup: its numbers mean something else
        database.rollouts.add([_row(one) for one in found])
        self._known = found[-1].number if found else 0


def _row(one: Transition) -> RolloutRow:
    return RolloutRow(**asdict(one))  # the same fields, in both rooms
