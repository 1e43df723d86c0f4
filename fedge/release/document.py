"""Signed documents: some bytes, what they are for, and one signature over both.

A certificate document ties a routing certificate to the release that it speaks of: it verifies for that release and no
other. What the statement says is read by ``fedge.routing``, only after the signature was checked here.
"""

import base64
import binascii
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedge.errors import VerificationError
from fedge.release.canonical import from_canonical, hex_bytes, require_keys, to_canonical
from fedge.release.signing import SIGNATURE_BYTES, sign, verify

MAX_DOCUMENT_BYTES = 4 * 2**20
CERTIFICATE_DOMAIN = "fedge/certificate/1"


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """A payload and the signature on it. The payload is untrusted until ``open`` has returned it."""

    payload: bytes
    signature: bytes

    @staticmethod
    def sign(private_key: Ed25519PrivateKey, domain: str, payload: bytes) -> "SignedDocument":
        """Signs ``payload`` for the purpose ``domain``."""
        return SignedDocument(payload, sign(private_key, domain, payload))

    def open(self, public_key: Ed25519PublicKey, domain: str) -> bytes:
        """The payload, once the signature has verified. Raises VerificationError."""
        verify(public_key, domain, self.payload, self.signature)
        return self.payload

    def to_bytes(self) -> bytes:
        """Canonical JSON with the payload in base64."""
        return to_canonical({"payload": _encode(self.payload), "signature": self.signature.hex()})

    @staticmethod
    def from_bytes(data: bytes) -> "SignedDocument":
        """Reads what ``to_bytes`` wrote, without checking the signature. Raises VerificationError."""
        mapping = from_canonical(data, what="signed document", max_bytes=MAX_DOCUMENT_BYTES)
        require_keys(mapping, ("payload", "signature"), what="signed document")
        signature = hex_bytes(mapping["signature"], SIGNATURE_BYTES, what="signed document: signature")
        return SignedDocument(_decode(mapping["payload"], what="signed document: payload"), signature)


@dataclass(frozen=True, slots=True)
class CertificateDocument:
    """A routing certificate's statement (bytes of ``CertificateStatement``), bound to one release and signed."""

    release_id: str
    statement: bytes
    signature: bytes

    @staticmethod
    def sign(private_key: Ed25519PrivateKey, release_id: str, statement: bytes) -> "CertificateDocument":
        """Signs ``statement`` for the release ``release_id`` (64 hexadecimal digits) with the release key."""
        signature = sign(private_key, CERTIFICATE_DOMAIN, _bound(release_id, statement))
        return CertificateDocument(release_id, statement, signature)

    def verify(self, public_key: Ed25519PublicKey, release_id: str) -> bytes:
        """The statement, once it is shown to be signed for ``release_id``. Raises VerificationError."""
        if self.release_id != release_id:
            raise VerificationError(f"certificate: is for release {self.release_id[:12]}, not {release_id[:12]}")
        verify(public_key, CERTIFICATE_DOMAIN, _bound(self.release_id, self.statement), self.signature)
        return self.statement

    def to_bytes(self) -> bytes:
        """Canonical JSON with the statement in base64."""
        return to_canonical(
            {
                "release_id": self.release_id,
                "statement": _encode(self.statement),
                "signature": self.signature.hex(),
            }
        )

    @staticmethod
    def from_bytes(data: bytes) -> "CertificateDocument":
        """Reads what ``to_bytes`` wrote, without checking the signature. Raises VerificationError."""
        mapping = from_canonical(data, what="certificate", max_bytes=MAX_DOCUMENT_BYTES)
        require_keys(mapping, ("release_id", "statement", "signature"), what="certificate")
        hex_bytes(mapping["release_id"], 32, what="certificate: release_id")
        signature = hex_bytes(mapping["signature"], SIGNATURE_BYTES, what="certificate: signature")
        return CertificateDocument(mapping["release_id"], _decode(mapping["statement"], what="certificate"), signature)


def _bound(release_id: str, statement: bytes) -> bytes:
    return hex_bytes(release_id, 32, what="certificate: release_id") + statement


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: object, *, what: str) -> bytes:
    if not isinstance(text, str):
        raise VerificationError(f"{what}: expected base64 text")
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise VerificationError(f"{what}: not base64") from None
    if _encode(data) != text:  # base64 leaves spare bits: only one spelling is accepted
        raise VerificationError(f"{what}: not canonical base64")
    return data
