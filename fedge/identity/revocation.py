"""Revoked devices as a signed, numbered list. A device keeps the newest that it has seen and refuses one that is too old.

A whole device is revoked, never a single certificate: those live for a day and renewing one asks for the device's id again.
"""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedge.errors import InputError, VerificationError
from fedge.identity.device_id import check_device_id
from fedge.release.canonical import from_canonical, require_keys, to_canonical
from fedge.release.document import MAX_DOCUMENT_BYTES, SignedDocument

REVOCATION_DOMAIN = "fedge/revocation/1"


@dataclass(frozen=True, slots=True)
class RevocationList:
    """Everyone who was revoked up to ``issued_at`` (UNIX seconds). ``number`` grows with every change."""

    number: int
    issued_at: float
    device_ids: frozenset[str]

    def sign(self, ca_key: Ed25519PrivateKey) -> bytes:
        """The signed document's bytes."""
        payload = to_canonical(
            {"number": self.number, "issued_at": float(self.issued_at), "device_ids": sorted(self.device_ids)}
        )
        return SignedDocument.sign(ca_key, REVOCATION_DOMAIN, payload).to_bytes()

    @staticmethod
    def verify(data: bytes, ca_public_key: Ed25519PublicKey, *, not_older_than: float = 0.0) -> "RevocationList":
        """The list in a signed document that was issued at ``not_older_than`` or later. Raises VerificationError."""
        payload = SignedDocument.from_bytes(data).open(ca_public_key, REVOCATION_DOMAIN)
        mapping = from_canonical(payload, what="revocation list", max_bytes=MAX_DOCUMENT_BYTES)
        require_keys(mapping, ("number", "issued_at", "device_ids"), what="revocation list")
        number, issued_at, device_ids = mapping["number"], mapping["issued_at"], mapping["device_ids"]
        if type(number) is not int or number < 0 or type(issued_at) is not float or not isinstance(device_ids, list):
            raise VerificationError("revocation list: a field has the wrong type")
        try:
            revoked = frozenset(check_device_id(device_id) for device_id in device_ids)
        except InputError as error:
            raise VerificationError(f"revocation list: {error}") from None
        if issued_at < not_older_than:
            raise VerificationError(f"revocation list {number}: issued at {issued_at:.0f}, older than this device accepts")
        return RevocationList(number, issued_at, revoked)
