"""How the round at hand goes, written to the store while it goes: a `ProgressLog` for those who watch.

A phase's begin and end are written as they come; how many have reported at most a few times a second. A store that fails
costs the watchers their view and never the round: it is said once in the log.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from aggregator.rounds.interfaces import Phase, Place
from aggregator.store import Database, StoreError

_log = logging.getLogger(__name__)

T = TypeVar("T")

REPORT_EVERY_S = 0.25


class StoredProgress:
    """Writes to ``database``. ``clock``: UNIX seconds, for the record; ``ticks``: seconds that only rise, for the pace."""

    def __init__(
        self, database: Database, *, clock: Callable[[], float] = time.time, ticks: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._clock = clock
        self._ticks = ticks
        self._is_failing = False

    def recover(self) -> None:
        """End what a crash left open. To be called once, before the first round."""
        now, happenings = self._clock(), self._database.happenings
        if left_open := self._tried(lambda: happenings.close_phases(at=now)):
            self.event("round.cut_off", f"{left_open} open phases were left behind by a crash", round_number=0)

    @contextmanager
    def phase(self, place: Place, phase: Phase, *, expected: int, needed: int) -> Iterator[Callable[[int], None]]:
        """A phase, with its end whatever ends it."""
        happenings = self._database.happenings
        number = self._tried(
            lambda: happenings.begin_phase(
                round_number=place.round_number,
                attempt=place.attempt,
                purpose=place.purpose,
                phase=phase,
                at=self._clock(),
                expected=expected,
                needed=needed,
            )
        )
        if number is None:
            yield lambda reported: None
            return
        latest, written = 0, self._ticks()

        def report(reported: int) -> None:
            nonlocal latest, written
            latest = reported
            if self._ticks() - written >= REPORT_EVERY_S:
                self._tried(lambda: happenings.note_phase(number, reported=reported))
                written = self._ticks()

        try:
            yield report
        finally:
            self._tried(lambda: happenings.note_phase(number, reported=latest, finished=self._clock()))

    def event(self, kind: str, text: str, *, round_number: int, **detail: str | int | float | None) -> None:
        """Something happened."""
        at = self._clock()
        self._tried(lambda: self._database.happenings.add_event(kind, text, at=at, round_number=round_number, detail=detail))

    def _tried(self, write: Callable[[], T]) -> T | None:
        """What ``write`` gives; None where the store fails."""
        try:
            given = write()
        except StoreError as error:
            if not self._is_failing:
                _log.warning("nobody can watch the rounds: %s", error)
            self._is_failing = True
            return None
        self._is_failing = False
        return given
