"""Who is who: device ids, keys, certificates of the enrolment authority, enrolment messages and the revocation list."""

from fedge.identity.certificates import (
    DEFAULT_LIFETIME_S,
    CertificateAuthority,
    issue_certificate,
    new_certificate_authority,
    verify_certificate,
)
from fedge.identity.device import DeviceIdentity, load_identity, load_or_create_key, save_certificate
from fedge.identity.device_id import check_device_id
from fedge.identity.enrolment import AWAITING_ENROLLMENT, EnrolmentRequest, key_fingerprint, request_certificate
from fedge.identity.join import Invitation
from fedge.identity.revocation import RevocationList
from fedge.identity.tls import TlsAuthority, new_tls_authority, tls_request
from fedge.identity.trust import OtherKey, TlsAnchor, TrustRoot

__all__ = [
    "AWAITING_ENROLLMENT",
    "DEFAULT_LIFETIME_S",
    "CertificateAuthority",
    "DeviceIdentity",
    "EnrolmentRequest",
    "Invitation",
    "OtherKey",
    "RevocationList",
    "TlsAnchor",
    "TlsAuthority",
    "TrustRoot",
    "check_device_id",
    "issue_certificate",
    "key_fingerprint",
    "load_identity",
    "load_or_create_key",
    "new_certificate_authority",
    "new_tls_authority",
    "request_certificate",
    "save_certificate",
    "tls_request",
    "verify_certificate",
]
