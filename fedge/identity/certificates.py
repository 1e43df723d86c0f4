"""X.509 certificates over Ed25519: one authority that enrols devices, and short-lived certificates that name a device.

One level deep on purpose: a device's certificate is signed by the authority whose key the verifier already holds, so there
are no chains to build. These identify devices inside the protocol; TLS has keys of its own. Time comes in as UNIX seconds.
"""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from fedge.errors import InputError, VerificationError
from fedge.identity.device_id import check_device_id

MAX_CERTIFICATE_BYTES = 4096
DEFAULT_LIFETIME_S = 24 * 3600.0
MAX_CLOCK_S = 253_402_300_799  # the last second of the year 9999, the end of X.509's calendar


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """The key that signs device certificates, and its self-signed certificate (DER)."""

    name: str
    private_key: Ed25519PrivateKey
    certificate: bytes


def new_certificate_authority(
    name: str, *, not_before: float, not_after: float, private_key: Ed25519PrivateKey | None = None
) -> CertificateAuthority:
    """An authority with a fresh key, or with the one given. Times in UNIX seconds. Raises InputError."""
    key = private_key or Ed25519PrivateKey.generate()
    usage = key_usage(signs_certificates=True)
    builder = _builder(name, name, key.public_key(), not_before, not_after)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    certificate = builder.add_extension(usage, critical=True).sign(key, algorithm=None)
    return CertificateAuthority(name, key, certificate.public_bytes(Encoding.DER))


def issue_certificate(
    ca_key: Ed25519PrivateKey,
    ca_name: str,
    device_id: str,
    public_key: Ed25519PublicKey,
    *,
    not_before: float,
    not_after: float,
) -> bytes:
    """A certificate (DER) that says: ``public_key`` is ``device_id``'s. Times in UNIX seconds. Raises InputError."""
    builder = _builder(ca_name, check_device_id(device_id), public_key, not_before, not_after)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(key_usage(signs_certificates=False), critical=True)
    return builder.sign(ca_key, algorithm=None).public_bytes(Encoding.DER)


def verify_certificate(der: bytes, ca_public_key: Ed25519PublicKey, now: float) -> tuple[str, Ed25519PublicKey]:
    """The device id and key that the authority vouches for at ``now`` (UNIX seconds). Raises VerificationError.

    Revocation is the caller's: a certificate that verifies here may stand on a ``RevocationList``.
    """
    device_id, key, not_before, not_after = _vouched(bytes(der), ca_public_key.public_bytes_raw())
    if not not_before <= now <= not_after:
        when = "not yet valid" if now < not_before else "expired"
        raise VerificationError(f"certificate of {device_id}: {when}")
    return device_id, key


# A cohort of 32 shows the same 32 certificates to each member, again in every round: a process that simulates a fleet would
# verify the same bytes thousands of times. What holds regardless of the clock is kept; refusals are not.
@lru_cache(maxsize=4096)
def _vouched(der: bytes, ca_key: bytes) -> tuple[str, Ed25519PublicKey, float, float]:
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise VerificationError(f"certificate: {len(der)} bytes, more than the {MAX_CERTIFICATE_BYTES} allowed")
    try:
        certificate = x509.load_der_x509_certificate(der)
        if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ED25519:
            raise VerificationError("certificate: not signed with Ed25519")
        Ed25519PublicKey.from_public_bytes(ca_key).verify(certificate.signature, certificate.tbs_certificate_bytes)
        return _contents(certificate)
    except InvalidSignature:
        raise VerificationError("certificate: not signed by the enrolment authority") from None
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension) as error:
        raise VerificationError(f"certificate: cannot be read: {str(error)[:200]}") from None


def forget_vouched() -> None:
    """Makes the next verification of every certificate a real one: for timings of one device."""
    _vouched.cache_clear()


def _contents(certificate: x509.Certificate) -> tuple[str, Ed25519PublicKey, float, float]:
    names = list(certificate.subject)
    if len(names) != 1 or names[0].oid != NameOID.COMMON_NAME or not isinstance(names[0].value, str):
        raise VerificationError("certificate: the subject is not a single common name")
    try:
        device_id = check_device_id(names[0].value)
    except InputError as error:
        raise VerificationError(f"certificate: {error}") from None
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        raise VerificationError(f"certificate of {device_id}: lacks basic constraints or key usage") from None
    # The authority signs its own certificate too: that one must never pass as a device's.
    if constraints.ca or not usage.digital_signature or usage.key_cert_sign:
        raise VerificationError(f"certificate of {device_id}: not a device's certificate")
    if len(certificate.extensions) != 2:
        raise VerificationError(f"certificate of {device_id}: holds unknown extensions")
    key = certificate.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise VerificationError(f"certificate of {device_id}: the key is not Ed25519")
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return device_id, key, start.timestamp(), end.timestamp()


def _builder(
    issuer: str, subject: str, public_key: Ed25519PublicKey, not_before: float, not_after: float
) -> x509.CertificateBuilder:
    if not 0 <= not_before < not_after <= MAX_CLOCK_S or int(not_before) == int(not_after):
        raise InputError(f"a certificate cannot be valid from {not_before} to {not_after} (UNIX seconds)")
    if not 0 < len(issuer) <= 64:
        raise InputError(f"the authority's name {issuer[:80]!r} needs 1 to 64 characters")
    return (
        x509.CertificateBuilder()
        .issuer_name(_name(issuer))
        .subject_name(_name(subject))
        .public_key(public_key)
        .serial_number(1 << 126 | secrets.randbits(126))  # of one length: so are all certificates for one name
        .not_valid_before(datetime.fromtimestamp(int(not_before), UTC))  # whole seconds are all that X.509 can say
        .not_valid_after(datetime.fromtimestamp(int(not_after), UTC))
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """What an authority's key may do, or a member's: sign certificates, or sign and nothing else."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
