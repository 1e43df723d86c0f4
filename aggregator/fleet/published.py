"""The registry of a fleet whose devices look at a TUF repository: what changes in the one is offered by the other at once.

Adds nothing to the registry's rules. A crash between the two is put right by the next change, or by `catch_up`.
"""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from aggregator.fleet.registry import ReleaseRegistry
from aggregator.fleet.tuf_repository import Lifetimes, TufRepository
from aggregator.settings import ServerHome
from fedge.release import CertificateDocument, Release


class PublishedRegistry(ReleaseRegistry):
    """A `ReleaseRegistry` whose every change is published."""

    def __init__(self, folder: Path, release_key: Ed25519PublicKey, tuf: TufRepository) -> None:
        super().__init__(folder, release_key)
        self.tuf = tuf

    def catch_up(self) -> None:
        """Offer what the registry says, where that is not offered yet: at a start."""
        self.tuf.publish(self)

    def publish(self, release: Release, *, at: float, reason: str = "published") -> str:
        """See `ReleaseRegistry.publish`."""
        release_id = super().publish(release, at=at, reason=reason)
        self.tuf.publish(self)
        return release_id

    def add_certificate(self, document: CertificateDocument, *, at: float) -> None:
        """See `ReleaseRegistry.add_certificate`."""
        super().add_certificate(document, at=at)
        self.tuf.publish(self)

    def put_on_canary(self, release_id: str, *, share: float, at: float, reason: str) -> None:
        """See `ReleaseRegistry.put_on_canary`."""
        super().put_on_canary(release_id, share=share, at=at, reason=reason)
        self.tuf.publish(self)

    def promote(self, release_id: str, *, at: float, reason: str) -> None:
        """See `ReleaseRegistry.promote`."""
        super().promote(release_id, at=at, reason=reason)
        self.tuf.publish(self)

    def reject(self, release_id: str, *, at: float, reason: str) -> None:
        """See `ReleaseRegistry.reject`."""
        super().reject(release_id, at=at, reason=reason)
        self.tuf.publish(self)

    def rollback(self, *, at: float, reason: str) -> str:
        """See `ReleaseRegistry.rollback`."""
        release_id = super().rollback(at=at, reason=reason)
        self.tuf.publish(self)
        return release_id


def tuf_repository(home: ServerHome) -> TufRepository:
    """The repository of a server's home, with the lifetimes of its settings."""
    return TufRepository(home.tuf, lifetimes=Lifetimes(timestamp_days=home.settings().releases.timestamp_days))


def published_registry(home: ServerHome, release_key: Ed25519PublicKey) -> PublishedRegistry:
    """The registry of a server's home, published through its TUF repository."""
    return PublishedRegistry(home.registry, release_key, tuf_repository(home))
