"""The public keys that a device pins when it joins. Everything else that it is sent must verify under one of them.

They change one numbered step at a time: the next root is signed by the authority key of the one before it, so a device that
was away for several steps walks them all, and nobody but the authority can lead it anywhere.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from fedge.calendar import DAY_S, Calendar
from fedge.errors import InputError, VerificationError
from fedge.identity.certificates import MAX_CLOCK_S, verify_certificate
from fedge.identity.revocation import RevocationList
from fedge.release.canonical import from_canonical, hex_bytes, require_keys, to_canonical
from fedge.release.document import SignedDocument

MAX_TRUST_BYTES = 16_384
TRUST_DOMAIN = "fedge/trust/1"
FOREVER = float(MAX_CLOCK_S)
_KEYS = ("authority_key", "release_key", "round_key")
_MOST = 4


@dataclass(frozen=True, slots=True)
class OtherKey:
    """An authority key that is accepted beside the one that issues: the next one, or the last one while it counts."""

    key: Ed25519PublicKey
    until: float


@dataclass(frozen=True, slots=True)
class TlsAnchor:
    """A TLS authority's certificate (DER) and until when it is accepted."""

    certificate: bytes
    until: float


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """One key a purpose: who enrolls devices, who signs releases and certificates, who signs round descriptors.

    ``period_s`` is the federation's calendar (`fedge.calendar`): a device contributes once a period to each kind of sum.
    """

    ca_name: str
    authority_key: Ed25519PublicKey
    release_key: Ed25519PublicKey
    round_key: Ed25519PublicKey
    number: int = 1
    other_authority_keys: tuple[OtherKey, ...] = ()
    tls_anchors: tuple[TlsAnchor, ...] = ()
    period_s: float = DAY_S

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return to_canonical(
            {
                "ca_name": self.ca_name,
                "number": self.number,
                "other_authority_keys": [
                    [other.key.public_bytes_raw().hex(), other.until] for other in self.other_authority_keys
                ],
                "tls_anchors": [[base64.b64encode(a.certificate).decode("ascii"), a.until] for a in self.tls_anchors],
                **{name: getattr(self, name).public_bytes_raw().hex() for name in _KEYS},
                # Left out at its default, so that roots from before there was a calendar keep their bytes.
                **({} if self.period_s == DAY_S else {"period_s": self.period_s}),
            }
        )

    @staticmethod
    def from_bytes(data: bytes) -> "TrustRoot":
        """Reads what ``to_bytes`` wrote; nobody signed it, so compare the ``fingerprint``. Raises VerificationError."""
        mapping = from_canonical(data, what="trust root", max_bytes=MAX_TRUST_BYTES)
        period_s = _read_period(mapping)
        require_keys(mapping, ("ca_name", "number", "other_authority_keys", "tls_anchors", *_KEYS), what="trust root")
        ca_name, number = mapping["ca_name"], mapping["number"]
        if not isinstance(ca_name, str) or not 0 < len(ca_name) <= 64:
            raise VerificationError("trust root: ca_name needs 1 to 64 characters")
        if type(number) is not int or not 0 < number < 1 << 31:
            raise VerificationError("trust root: number is not a positive integer")
        raw = {name: hex_bytes(mapping[name], 32, what=f"trust root: {name}") for name in _KEYS}
        others = tuple(
            OtherKey(_ed25519(hex_bytes(key, 32, what="trust root: other_authority_keys")), until)
            for key, until in _pairs(mapping["other_authority_keys"])
        )
        if len({*raw.values(), *(other.key.public_bytes_raw() for other in others)}) != len(_KEYS) + len(others):
            raise VerificationError("trust root: two purposes share a key")
        anchors = tuple(TlsAnchor(_certificate(text), until) for text, until in _pairs(mapping["tls_anchors"]))
        keys = {name: _ed25519(key) for name, key in raw.items()}
        return TrustRoot(
            ca_name, **keys, number=number, other_authority_keys=others, tls_anchors=anchors, period_s=period_s
        )

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the bytes, for people to compare."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def authority_keys(self, now: float) -> list[Ed25519PublicKey]:
        """The authority keys that are accepted at ``now``, the issuing one first."""
        return [self.authority_key, *(other.key for other in self.other_authority_keys if now <= other.until)]

    def verify_certificate(self, der: bytes, now: float) -> tuple[str, Ed25519PublicKey]:
        """The device id and key in a certificate that an accepted authority signed. Raises VerificationError."""
        first, *others = self.authority_keys(now)
        try:
            return verify_certificate(der, first, now)
        except VerificationError as refusal:
            for key in others:
                try:
                    return verify_certificate(der, key, now)
                except VerificationError:
                    continue
            raise refusal from None

    def read_revocations(self, data: bytes, now: float) -> RevocationList:
        """The list in a document that an accepted authority signed. Raises VerificationError."""
        first, *others = self.authority_keys(now)
        try:
            return RevocationList.verify(data, first)
        except VerificationError as refusal:
            for key in others:
                try:
                    return RevocationList.verify(data, key)
                except VerificationError:
                    continue
            raise refusal from None

    def tls_authorities(self, now: float) -> bytes:
        """PEM of the TLS authorities that are accepted at ``now``."""
        return b"".join(
            x509.load_der_x509_certificate(anchor.certificate).public_bytes(Encoding.PEM)
            for anchor in self.tls_anchors
            if now <= anchor.until
        )

    def signed(self, predecessor_key: Ed25519PrivateKey) -> bytes:
        """This root as a document by the authority key of the root before it."""
        return SignedDocument.sign(predecessor_key, TRUST_DOMAIN, self.to_bytes()).to_bytes()

    def successor(self, document: bytes) -> "TrustRoot":
        """The root that follows this one. Raises VerificationError for any other, and for one that is not signed by ours."""
        payload = SignedDocument.from_bytes(document).open(self.authority_key, TRUST_DOMAIN)
        root = TrustRoot.from_bytes(payload)
        if root.number != self.number + 1 or root.ca_name != self.ca_name:
            raise VerificationError(f"trust root {root.number} of {root.ca_name[:64]!r} does not follow root {self.number}")
        return root


def _read_period(mapping: dict[str, Any]) -> float:
    """Take the calendar's period out of a root's mapping; a day where none is named."""
    if "period_s" not in mapping:
        return DAY_S
    period_s = mapping.pop("period_s")
    if type(period_s) is not float or period_s == DAY_S:
        raise VerificationError("trust root: period_s is not a number of seconds as fedge writes it")
    try:
        return Calendar(period_s).period_s
    except InputError as error:
        raise VerificationError(f"trust root: {error}") from None


def _ed25519(key: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(key)


def _pairs(value: Any) -> list[tuple[Any, float]]:
    if not isinstance(value, list) or len(value) > _MOST:
        raise VerificationError(f"trust root: expected a list of at most {_MOST} pairs")
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or type(pair[1]) is not float or not 0 <= pair[1] <= FOREVER:
            raise VerificationError("trust root: expected a key and the time until which it is accepted")
    return [(key, until) for key, until in value]


def _certificate(text: object) -> bytes:
    try:
        if not isinstance(text, str):
            raise TypeError("not text")
        der = base64.b64decode(text, validate=True)
        x509.load_der_x509_certificate(der)
    except (ValueError, TypeError, binascii.Error):
        raise VerificationError("trust root: a TLS authority's certificate cannot be read") from None
    return der
