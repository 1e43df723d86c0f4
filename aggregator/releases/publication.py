"""The registry as rounds use it, with every change offered to devices at once: the TUF repository follows the registry.

Never decides what is promoted; a crash between the two is put right by the next change, or by the next `publish`.

The rollouts of the operators' record, copied from the registry: each of its changes is one row, exactly once.

The registry writes a change and its number in one transaction. The record is brought up to that number after each change,
and when the rounds or the console start: whoever dies in between, the next look adds what is missing, and a row that is
there is not added again. A record that cannot be written costs the change nothing.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict

from aggregator.disk_space import Retry, once
from aggregator.releases.registry import FEDGE, OnCanary, ReleaseRegistry, Transition
from aggregator.releases.tuf_repository import Lifetimes, TufRepository
from aggregator.settings import ServerHome, ServerSettings
from aggregator.store import Database, RolloutRow
from fedge.errors import FedgeError
from fedge.release import CertificateDocument, Release

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


def tuf_repository(home: ServerHome, settings: ServerSettings) -> TufRepository:
    """The repository that a server's devices read releases from."""
    return TufRepository(home.tuf, lifetimes=Lifetimes(timestamp_days=settings.releases.timestamp_days))


class OfferedRegistry:
    """A `aggregator.rounds.interfaces.Registry` over registry and repository. ``record`` is called after each change.

    ``retry`` does each step, the change and the offer of it apart, since a step that is done must not be done again.
    """

    def __init__(
        self,
        registry: ReleaseRegistry,
        repository: TufRepository,
        *,
        record: Callable[[], None] = lambda: None,
        retry: Retry = once,
    ) -> None:
        self._registry = registry
        self._repository = repository
        self._record = record
        self._retry = retry

    def catch_up(self) -> None:
        """Offer and record what the registry says, where that is not done yet."""
        try:
            self._retry(lambda: self._repository.publish(self._registry))
        finally:  # what devices cannot be offered was decided all the same
            self._record()

    def publish(self, release: Release, *, at: float) -> str:
        """Make a release fetchable; devices do not answer with it yet."""
        release_id = self._retry(lambda: self._registry.publish(release, at=at))
        self.catch_up()
        return release_id

    def add_certificate(self, document: CertificateDocument, *, at: float) -> None:
        """Store the certificate of a published release; the newest counts."""
        self._retry(lambda: self._registry.add_certificate(document, at=at))
        self.catch_up()

    def active(self) -> str | None:
        """What devices should run."""
        return self._registry.active()

    def reject(self, release_id: str, *, at: float, reason: str, actor: str = FEDGE) -> None:
        """Give up a published release that was never promoted."""
        self._retry(lambda: self._registry.reject(release_id, at=at, reason=reason, actor=actor))
        self.catch_up()

    def promote(self, release_id: str, *, at: float, reason: str, actor: str = FEDGE) -> None:
        """Make a published release what devices should run."""
        self._retry(lambda: self._registry.promote(release_id, at=at, reason=reason, actor=actor))
        self.catch_up()

    def put_on_canary(self, release_id: str, *, share: float, at: float, reason: str) -> None:
        """Let a share of the devices run a published release."""
        self._retry(lambda: self._registry.put_on_canary(release_id, share=share, at=at, reason=reason))
        self.catch_up()

    def canary(self) -> OnCanary | None:
        """The release that a share of the devices runs, if any."""
        return self._registry.canary()

    def release(self, release_id: str) -> Release:
        """A published release."""
        return self._registry.release(release_id)

    def rollback(self, *, at: float, reason: str, actor: str = FEDGE) -> str:
        """Take the active release back for the one before; returns that one's id."""
        release_id = self._registry.rollback(at=at, reason=reason, actor=actor)
        self.catch_up()
        return release_id
