"""The health window after a swap: what is counted, and when a device goes back to the release it ran before.

Given up are a release whose model cannot be loaded or fails its self-test, one that keeps ending the process (at its load or
soon after a start), one whose model fails (raises, or gives what is no number) several times, and one that suddenly
escalates much more than the release before. Outside its window a release is only counted. Each verdict is kept with its
reason.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from edge_client.store import DeviceStore, InstalledRelease, StoreUnwritableError
from edge_client.store.releases import HealthCounts

_FLUSH_EVERY = 256
_STARTED_S = 30.0
"""A process that lived this long under a release did start: what ends it later, a power cut for one, is not a bad start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRules:
    """``health_s``: length of the window. ``max_errors``: failures of the model that end it. ``max_starts``: loads or starts
    that may end the process before the release is given up. ``escalation_rise``: largest rise of the share of escalated
    queries, judged once ``min_answers`` queries were routed under each of the two releases.
    """

    health_s: float = 900.0
    max_errors: int = 3
    max_starts: int = 3
    escalation_rise: float = 0.3
    min_answers: int = 50


@dataclass(frozen=True, slots=True)
class _Tally:
    answered: int = 0
    errors: int = 0
    routed: int = 0
    escalated: int = 0

    def __add__(self, other: "_Tally") -> "_Tally":
        return _Tally(
            self.answered + other.answered,
            self.errors + other.errors,
            self.routed + other.routed,
            self.escalated + other.escalated,
        )


class ReleaseWatch:
    """Judges releases on one device. Safe between threads."""

    def __init__(self, store: DeviceStore, rules: WatchRules, clock: Callable[[], float]) -> None:
        self._store = store
        self._rules = rules
        self._clock = clock
        self._lock = threading.Lock()
        self._counted: dict[str, _Tally] = {}
        self._watched: str | None = None
        self._starting_since: float | None = None

    def refused(self, release_id: str) -> str | None:
        """Why this device gave the release up, or None where it did not."""
        health = self._store.health.get(release_id)
        return health.reason if health is not None and health.state == "rolled_back" else None

    def trying(self, release_id: str) -> str | None:
        """The release is about to be loaded. Returns why it must not be, where its load ended the process too often."""
        health = self._store.health.get(release_id)
        if health is None:
            self._store.health.enter(release_id, "trying", at=self._clock())
        elif health.state != "trying":
            return None
        return self._count_start(release_id, "loading it ended the process")

    def loaded(self, release_id: str) -> None:
        """The release was loaded and passed its self-test."""
        health = self._store.health.get(release_id)
        if health is not None and health.state == "trying":
            self._store.health.enter(release_id, "trying", at=self._clock())

    def give_up(self, release_id: str, reason: str) -> None:
        """Record that the release is not used on this device any more."""
        self.flush()
        self._store.health.enter(release_id, "rolled_back", at=self._clock(), reason=reason)

    def begin(self, release_id: str, before: InstalledRelease | None) -> None:
        """The release is what the device answers with from now on; ``before`` is what it would go back to."""
        self.flush()
        health = self._store.health.get(release_id)
        if health is None or health.state == "trying":
            self._store.health.enter(release_id, "watched", at=self._clock())
            self._store.health.count_start(release_id, 1)  # until this process has lived for a while, or ends well
            self._starting_since = self._clock()
        self._store.health.set_before(before)
        self._watched = release_id if health is None or health.state != "healthy" else None

    def starting(self, release_id: str) -> str | None:
        """The process starts with the release. Returns why it must not, where it ended too often under it."""
        health = self._store.health.get(release_id)
        if health is None or health.state != "watched":
            return None
        self._watched = release_id
        self._starting_since = self._clock()
        return self._count_start(release_id, "the process ended unexpectedly under it")

    def stopping(self, release_id: str) -> None:
        """The process ends as it should."""
        self.flush()
        self._started_well(release_id)

    def settled(self, release_id: str) -> bool:
        """Whether the window of the release is over; it is then recorded as healthy and needs no release to go back to."""
        health = self._store.health.get(release_id)
        if health is None or health.state != "watched":
            return True
        if self._starting_since is not None and self._clock() - self._starting_since >= _STARTED_S:
            self._started_well(release_id)
        if self._clock() - health.since < self._rules.health_s:
            return False
        self.flush()
        with self._store.transaction():
            self._store.health.enter(release_id, "healthy", at=self._clock())
            self._store.health.set_before(None)
        self._watched = None
        return True

    def note(
        self, release_id: str, *, answered: int = 0, errors: int = 0, routed: int = 0, escalated: int = 0
    ) -> str | None:
        """Count what happened under the release. Returns why to go back, where it has become too much."""
        with self._lock:
            tally = self._counted.get(release_id, _Tally()) + _Tally(answered, errors, routed, escalated)
            self._counted[release_id] = tally
        if (
            errors
            or tally.answered >= _FLUSH_EVERY
            or (release_id == self._watched and tally.routed >= self._rules.min_answers)
        ):
            try:
                self.flush()
            except StoreUnwritableError:  # counted in memory on: a query is answered all the same
                return None
            return self._verdict(release_id)
        return None

    def pending(self, release_id: str) -> HealthCounts:
        """What no secure sum has carried yet of a release."""
        self.flush()
        return self._store.health.pending(release_id)

    def flush(self) -> None:
        """Bring what was counted to the store."""
        with self._lock:
            counted, self._counted = self._counted, {}
        try:
            with self._store.transaction():
                for release_id, tally in counted.items():
                    self._store.health.count(
                        release_id,
                        answered=tally.answered,
                        errors=tally.errors,
                        routed=tally.routed,
                        escalated=tally.escalated,
                    )
        except BaseException:
            with self._lock:
                for release_id, tally in counted.items():
                    self._counted[release_id] = tally + self._counted.get(release_id, _Tally())
            raise

    def _started_well(self, release_id: str) -> None:
        if self._starting_since is not None:
            self._store.health.count_start(release_id, -1)
            self._starting_since = None

    def _verdict(self, release_id: str) -> str | None:
        rules, health = self._rules, self._store.health.get(release_id)
        if health is None or health.state != "watched":
            return None
        if health.errors >= rules.max_errors:
            return f"its model failed {health.errors} times"
        before = self._store.health.before()
        past = self._store.health.get(before.release_id) if before is not None else None
        if past is None or min(past.routed, health.routed) < rules.min_answers:
            return None
        was, now = past.escalated / past.routed, health.escalated / health.routed
        if now - was > rules.escalation_rise:
            return f"it escalated {now:.0%} of {health.routed} queries, the release before {was:.0%}"
        return None

    def _count_start(self, release_id: str, what: str) -> str | None:
        with self._store.transaction(durable=True):
            self._store.health.count_start(release_id, 1)
        health = self._store.health.get(release_id)
        if health is not None and health.starts > self._rules.max_starts:
            return f"{what} {health.starts - 1} times"
        return None
