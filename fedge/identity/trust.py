"""The public keys that a device pins when it joins. Everything else that it is sent must verify under one of them."""

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedge.errors import VerificationError
from fedge.release.canonical import from_canonical, hex_bytes, require_keys, to_canonical

MAX_TRUST_BYTES = 1024
_KEYS = ("authority_key", "release_key", "round_key")


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """One key a purpose: who enrols devices, who signs releases and certificates, who signs round descriptors."""

    ca_name: str
    authority_key: Ed25519PublicKey
    release_key: Ed25519PublicKey
    round_key: Ed25519PublicKey

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        keys = {name: getattr(self, name).public_bytes_raw().hex() for name in _KEYS}
        return to_canonical({"ca_name": self.ca_name, **keys})

    @staticmethod
    def from_bytes(data: bytes) -> "TrustRoot":
        """Reads what ``to_bytes`` wrote; nobody signed it, so compare the ``fingerprint``. Raises VerificationError."""
        mapping = from_canonical(data, what="trust root", max_bytes=MAX_TRUST_BYTES)
        require_keys(mapping, ("ca_name", *_KEYS), what="trust root")
        ca_name = mapping["ca_name"]
        if not isinstance(ca_name, str) or not 0 < len(ca_name) <= 64:
            raise VerificationError("trust root: ca_name needs 1 to 64 characters")
        raw = {name: hex_bytes(mapping[name], 32, what=f"trust root: {name}") for name in _KEYS}
        if len(set(raw.values())) != len(_KEYS):
            raise VerificationError("trust root: two purposes share a key")
        return TrustRoot(ca_name, **{name: Ed25519PublicKey.from_public_bytes(key) for name, key in raw.items()})

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the bytes, for people to compare."""
        return hashlib.sha256(self.to_bytes()).hexdigest()
