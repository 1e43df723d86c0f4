"""The registry as rounds use it, with every change offered to devices at once: the TUF repository follows the registry.

Never decides what is promoted; a crash between the two is put right by the next change, or by the next `publish`.
"""

from collections.abc import Callable

from aggregator.disk_space import Retry, once
from aggregator.releases.registry import OnCanary, ReleaseRegistry
from aggregator.releases.transitions import FEDGE
from aggregator.releases.tuf_repository import Lifetimes, TufRepository
from aggregator.settings import ServerHome, ServerSettings
from fedge.release import CertificateDocument, Release


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
