"""Sign releases and certificates with the release key where it is at hand, or by the machine that holds it."""

from collections.abc import Mapping
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedge.errors import FedgeError
from fedge.release import CertificateDocument, Manifest, Release, sign_release


class SigningInterruptedError(FedgeError):
    """The process was told to stop while a round waited for a signature."""


class ReleaseSigner(Protocol):
    """Signs with a release key that this process cannot read (`aggregator.signing.queue`). Both calls may take days."""

    def sign_release(self, manifest: Manifest, files: Mapping[str, bytes]) -> Release:
        """Return the signed release. Raises SigningInterruptedError."""

    def sign_certificate(self, release_id: str, statement: bytes) -> CertificateDocument:
        """Return the signed document. Raises SigningInterruptedError."""


ReleaseKey = Ed25519PrivateKey | ReleaseSigner
"""The release key itself, or a way to have it used."""


def sign_release_with(key: ReleaseKey, manifest: Manifest, files: Mapping[str, bytes]) -> Release:
    """Sign a release. Raises VerificationError for files that are no release."""
    return sign_release(manifest, files, key) if isinstance(key, Ed25519PrivateKey) else key.sign_release(manifest, files)


def sign_certificate_with(key: ReleaseKey, release_id: str, statement: bytes) -> CertificateDocument:
    """Sign the statement about a release."""
    if isinstance(key, Ed25519PrivateKey):
        return CertificateDocument.sign(key, release_id, statement)
    return key.sign_certificate(release_id, statement)
