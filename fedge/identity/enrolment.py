"""The message with which a device asks for a certificate: its id, its public key, and proof that it holds the private one.

The proof is over the authority's name as well, so that a request made for one federation is of no use in another. Who may
have a certificate is not decided here.
"""

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedge.errors import InputError, VerificationError
from fedge.identity.device_id import check_device_id
from fedge.release.canonical import from_canonical, hex_bytes, require_keys, to_canonical
from fedge.release.signing import SIGNATURE_BYTES, sign, verify

ENROLMENT_DOMAIN = "fedge/enrolment/1"
MAX_REQUEST_BYTES = 1024
AWAITING_ENROLLMENT = "waits to be enrolled"
"""What the server's refusal says where a person has to accept the device on another machine first."""


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """A device's wish for a certificate by the authority ``ca_name``, signed with the key that it is to name."""

    ca_name: str
    device_id: str
    public_key: bytes
    """Ed25519, 32 bytes."""
    proof: bytes

    def verify(self) -> Ed25519PublicKey:
        """The key, once the proof of possession holds. Raises VerificationError."""
        try:
            key = Ed25519PublicKey.from_public_bytes(self.public_key)
        except ValueError:
            raise VerificationError(f"enrolment of {self.device_id}: not an Ed25519 key") from None
        verify(key, ENROLMENT_DOMAIN, _claim(self.ca_name, self.device_id, self.public_key), self.proof)
        return key

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return to_canonical(
            {
                "ca_name": self.ca_name,
                "device_id": self.device_id,
                "public_key": self.public_key.hex(),
                "proof": self.proof.hex(),
            }
        )

    @staticmethod
    def from_bytes(data: bytes) -> "EnrolmentRequest":
        """Reads what ``to_bytes`` wrote, and checks the form; ``verify`` checks the proof. Raises VerificationError."""
        mapping = from_canonical(data, what="enrolment", max_bytes=MAX_REQUEST_BYTES)
        require_keys(mapping, ("ca_name", "device_id", "public_key", "proof"), what="enrolment")
        try:
            device_id = check_device_id(mapping["device_id"])
        except InputError as error:
            raise VerificationError(f"enrolment: {error}") from None
        if not isinstance(mapping["ca_name"], str):
            raise VerificationError("enrolment: ca_name is not text")
        public_key = hex_bytes(mapping["public_key"], 32, what="enrolment: public_key")
        proof = hex_bytes(mapping["proof"], SIGNATURE_BYTES, what="enrolment: proof")
        return EnrolmentRequest(mapping["ca_name"], device_id, public_key, proof)


def key_fingerprint(public_key: bytes) -> str:
    """Return 128 bits of a key's SHA-256 in groups, for people to compare on two screens."""
    digest = hashlib.sha256(b"fedge/device-key/1" + public_key).hexdigest()
    return "-".join(digest[start : start + 4] for start in range(0, 32, 4))


def request_certificate(ca_name: str, device_id: str, private_key: Ed25519PrivateKey) -> EnrolmentRequest:
    """The request of ``device_id``, signed. Raises InputError for an id that cannot be."""
    public_key = private_key.public_key().public_bytes_raw()
    proof = sign(private_key, ENROLMENT_DOMAIN, _claim(ca_name, check_device_id(device_id), public_key))
    return EnrolmentRequest(ca_name, device_id, public_key, proof)


def _claim(ca_name: str, device_id: str, public_key: bytes) -> bytes:
    return to_canonical([ca_name, device_id, public_key.hex()])
