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
from fedge.identity.enrolment import EnrolmentRequest, request_certificate
from fedge.identity.revocation import RevocationList
from fedge.identity.trust import TrustRoot

__all__ = [
    "DEFAULT_LIFETIME_S",
    "CertificateAuthority",
    "DeviceIdentity",
    "EnrolmentRequest",
    "RevocationList",
    "TrustRoot",
    "check_device_id",
    "issue_certificate",
    "load_identity",
    "load_or_create_key",
    "new_certificate_authority",
    "request_certificate",
    "save_certificate",
    "verify_certificate",
]
