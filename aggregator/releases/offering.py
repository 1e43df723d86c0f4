"""The registry as rounds use it, with every change offered to devices at once: the TUF repository follows the registry.

Never decides what is promoted; a crash between the two is put right by the next change, or by the next `publish`.
"""

from aggregator.releases.registry import OnCanary, ReleaseRegistry
from aggregator.releases.tuf_repository import Lifetimes, TufRepository
from aggregator.settings import ServerHome, ServerSettings
from fedge.release import CertificateDocument, Release


def tuf_repository(home: ServerHome, settings: ServerSettings) -> TufRepository:
    """The repository that a server's devices read releases from."""
    return TufRepository(home.tuf, lifetimes=Lifetimes(timestamp_days=settings.releases.timestamp_days))


class OfferedRegistry:
    """A `aggregator.rounds.round.Registry` over registry and repository."""

    def __init__(self, registry: ReleaseRegistry, repository: TufRepository) -> None:
        self._registry = registry
        self._repository = repository

    def catch_up(self) -> None:
        """Offer what the registry says, where that is not offered yet."""
        self._repository.publish(self._registry)

    def publish(self, release: Release, *, at: float) -> str:
        """Make a release fetchable; devices do not answer with it yet."""
        release_id = self._registry.publish(release, at=at)
        self._repository.publish(self._registry)
        return release_id

    def add_certificate(self, document: CertificateDocument, *, at: float) -> None:
        """Store the certificate of a published release; the newest counts."""
        self._registry.add_certificate(document, at=at)
        self._repository.publish(self._registry)

    def active(self) -> str | None:
        """What devices should run."""
        return self._registry.active()

    def reject(self, release_id: str, *, at: float, reason: str) -> None:
        """Give up a published release that was never promoted."""
        self._registry.reject(release_id, at=at, reason=reason)
        self._repository.publish(self._registry)

    def promote(self, release_id: str, *, at: float, reason: str) -> None:
        """Make a published release what devices should run."""
        self._registry.promote(release_id, at=at, reason=reason)
        self._repository.publish(self._registry)

    def put_on_canary(self, release_id: str, *, share: float, at: float, reason: str) -> None:
        """Let a share of the devices run a published release."""
        self._registry.put_on_canary(release_id, share=share, at=at, reason=reason)
        self._repository.publish(self._registry)

    def canary(self) -> OnCanary | None:
        """The release that a share of the devices runs, if any."""
        return self._registry.canary()

    def release(self, release_id: str) -> Release:
        """A published release."""
        return self._registry.release(release_id)

    def rollback(self, *, at: float, reason: str) -> str:
        """Take the active release back for the one before; returns that one's id."""
        release_id = self._registry.rollback(at=at, reason=reason)
        self._repository.publish(self._registry)
        return release_id
