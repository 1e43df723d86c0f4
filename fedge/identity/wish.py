"""What a device asks certificates for: three public keys under one id, each private half proved where that is possible.

The identity key signs what it says in secure aggregation, the TLS key its connections, the node key Flower's calls.
"""

from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from fedge.errors import VerificationError
from fedge.identity.enrolment import EnrolmentRequest, request_certificate
from fedge.identity.tls import key_bytes, key_from_bytes, read_tls_request, tls_request
from fedge.release.canonical import to_canonical

_MAX_NODE_KEY_LENGTH = 512


@dataclass(frozen=True, slots=True)
class VerifiedWish:
    """A wish whose proofs hold."""

    device_id: str
    identity_key: bytes
    """Ed25519, 32 bytes."""
    tls_key: bytes
    """P-256, the compressed point."""
    node_key: str
    """P-384 in OpenSSH form, without a comment."""

    @property
    def tls_public_key(self) -> ec.EllipticCurvePublicKey:
        """The TLS key as an object."""
        return key_from_bytes(self.tls_key)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the id and all keys. Signatures stay out: the same device signs anew each time it asks."""
        parts = [self.device_id, self.identity_key.hex(), self.tls_key.hex(), self.node_key]
        return sha256(to_canonical(parts)).digest()


@dataclass(frozen=True, slots=True)
class Wish:
    """As it travels."""

    identity_request: bytes
    tls_request: bytes
    node_key: str

    def verify(self) -> VerifiedWish:
        """Checks form and proofs. Who may have a certificate is not decided here. Raises VerificationError."""
        request = EnrolmentRequest.from_bytes(self.identity_request)
        request.verify()
        tls_key = read_tls_request(self.tls_request, request.device_id)
        return VerifiedWish(request.device_id, request.public_key, key_bytes(tls_key), _node_key(self.node_key))


def make_wish(
    ca_name: str,
    device_id: str,
    *,
    identity_key: Ed25519PrivateKey,
    tls_key: ec.EllipticCurvePrivateKey,
    node_key: ec.EllipticCurvePrivateKey,
) -> Wish:
    """The wish of a device that holds these keys. Raises InputError for an id that cannot be."""
    node = node_key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
    request = request_certificate(ca_name, device_id, identity_key).to_bytes()
    return Wish(request, tls_request(device_id, tls_key), node)


def _node_key(text: str) -> str:
    try:
        if len(text) > _MAX_NODE_KEY_LENGTH:
            raise ValueError("too long")
        key = load_ssh_public_key(text.encode("ascii"))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise VerificationError(f"node key: cannot be read: {str(error)[:100]}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise VerificationError("node key: not ECDSA P-384")
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
