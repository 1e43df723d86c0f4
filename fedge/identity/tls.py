"""X.509 certificates for TLS: an authority over ECDSA P-256 (gRPC takes no Ed25519 keys) that signs servers and devices.

A server's certificate can serve only and a device's can call only (extended key usage), so that a device whose id happens to
be a server's host name cannot pose as that server. The authority's name follows from its key: no two authorities share one.
"""

import ipaddress
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedge.errors import InputError, VerificationError
from fedge.identity.certificates import key_usage
from fedge.identity.device_id import check_device_id

MAX_TLS_REQUEST_BYTES = 2048
_ANCHOR_SPAN = datetime(2000, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TlsAuthority:
    """The key that signs TLS certificates, and its self-signed certificate (PEM)."""

    private_key: ec.EllipticCurvePrivateKey
    certificate: bytes

    def server_certificate(
        self, names: tuple[str, ...], public_key: ec.EllipticCurvePublicKey, *, not_before: float, not_after: float
    ) -> bytes:
        """PEM for a server that is called by these host names and addresses. Raises InputError."""
        if not names:
            raise InputError("a server's certificate needs at least one name")
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        builder = _leaf(self, "fedge server", public_key, ExtendedKeyUsageOID.SERVER_AUTH, (not_before, not_after))
        return _pem(builder.add_extension(alternatives, critical=False).sign(self.private_key, hashes.SHA256()))

    def device_certificate(
        self, device_id: str, public_key: ec.EllipticCurvePublicKey, *, not_before: float, not_after: float
    ) -> bytes:
        """PEM for a device, which it names twice: as the common name and as ``urn:fedge:device:ID``."""
        alternatives = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"urn:fedge:device:{device_id}")])
        span = not_before, not_after
        builder = _leaf(self, check_device_id(device_id), public_key, ExtendedKeyUsageOID.CLIENT_AUTH, span)
        return _pem(builder.add_extension(alternatives, critical=False).sign(self.private_key, hashes.SHA256()))


def new_tls_authority(*, not_before: float, not_after: float) -> TlsAuthority:
    """An authority with a fresh key. Times in UNIX seconds."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(authority_name(key.public_key()))
    builder = _anchor(name, key.public_key(), _moment(not_before), _moment(not_after))
    return TlsAuthority(key, _pem(builder.sign(key, hashes.SHA256())))


def anchor_certificate(public_key: ec.EllipticCurvePublicKey) -> bytes:
    """A certificate (PEM) that makes TLS trust the authority with this key, and no other.

    A trust anchor is a name and a key (RFC 5280, 6.1.1 d); the certificate around them is a wrapper whose own signature
    nobody checks, so a throw-away key makes it here. A device that joins knows the key and nothing else yet.
    """
    name = _name(authority_name(public_key))
    wrapper = _anchor(name, public_key, *_ANCHOR_SPAN)
    return _pem(wrapper.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()))


def authority_name(public_key: ec.EllipticCurvePublicKey) -> str:
    """What the authority with this key is called in certificates."""
    return f"fedge TLS {sha256(key_bytes(public_key)).hexdigest()[:32]}"


def key_bytes(public_key: ec.EllipticCurvePublicKey) -> bytes:
    """33 bytes: the compressed point."""
    return public_key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)


def key_from_bytes(data: bytes) -> ec.EllipticCurvePublicKey:
    """The key that ``key_bytes`` wrote. Raises VerificationError."""
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data)
    except ValueError:
        raise VerificationError("not a P-256 key") from None


def loopback_certificate(name: str, *, not_before: datetime, not_after: datetime) -> tuple[bytes, bytes]:
    """A certificate (PEM) for 127.0.0.1 and localhost that is its own authority, and its fresh key (PEM, unencrypted).

    For two processes of one machine, one of which pins it.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    common = _name(name)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(common)
        .issuer_name(common)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectAlternativeName([_general_name("127.0.0.1"), _general_name("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pem(certificate), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def tls_request(device_id: str, private_key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate request (PKCS 10, DER) by the holder of the key. Raises InputError for an id that cannot be."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(check_device_id(device_id)))
    return builder.sign(private_key, hashes.SHA256()).public_bytes(Encoding.DER)


def read_tls_request(data: bytes, device_id: str) -> ec.EllipticCurvePublicKey:
    """The key in the request of ``device_id``, whose possession the request proves. Raises VerificationError."""
    try:
        if len(data) > MAX_TLS_REQUEST_BYTES:
            raise ValueError("too long")
        request = x509.load_der_x509_csr(data)
        key = request.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise VerificationError(f"TLS request of {device_id}: the key is not ECDSA P-256")
        if not request.is_signature_valid:
            raise VerificationError(f"TLS request of {device_id}: not signed with its own key")
        named = request.subject == _name(device_id)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise VerificationError(f"TLS request of {device_id}: cannot be read: {str(error)[:100]}") from None
    if not named:
        raise VerificationError(f"TLS request of {device_id}: names someone else")
    return key


def certificate_span(pem: bytes) -> tuple[float, float]:
    """From when until when a certificate (PEM, the first if there are more) is valid, UNIX seconds. VerificationError."""
    certificate = read_pem(pem)
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def der_span(der: bytes) -> tuple[float, float]:
    """Return from when to when a certificate (DER) is valid, UNIX seconds. Raises VerificationError."""
    try:
        certificate = x509.load_der_x509_certificate(der)
    except ValueError:
        raise VerificationError("this is no DER certificate") from None
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether the authority's key signed the certificate, whatever the time."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def read_pem(pem: bytes) -> x509.Certificate:
    """The first certificate of a PEM file. Raises VerificationError."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise VerificationError(f"certificate: cannot be read: {str(error)[:100]}") from None


def _anchor(
    name: x509.Name, key: ec.EllipticCurvePublicKey, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key)
        .serial_number(1 << 126 | secrets.randbits(126))
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _leaf(
    authority: TlsAuthority,
    subject: str,
    key: ec.EllipticCurvePublicKey,
    purpose: x509.ObjectIdentifier,
    span: tuple[float, float],
) -> x509.CertificateBuilder:
    issuer = authority.private_key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(authority_name(issuer)))
        .public_key(key)
        .serial_number(1 << 126 | secrets.randbits(126))
        .not_valid_before(_moment(span[0]))
        .not_valid_after(_moment(span[1]))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError:
        raise InputError(f"{name[:80]!r} is no host name for a certificate: use letters, digits, '-' and '.'") from None


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _moment(at: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(at))


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
