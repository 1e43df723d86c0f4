from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from fedge.errors import InputError, VerificationError
from fedge.identity import (
    check_device_id,
    issue_certificate,
    new_certificate_authority,
    verify_certificate,
)

NOW = 1_767_225_600.0
CA = new_certificate_authority("fedge-enrolment", not_before=0, not_after=NOW * 2)
CA_KEY = CA.private_key.public_key()
DEVICE = Ed25519PrivateKey.from_private_bytes(b"d" * 32)


def certificate(device_id="device-1", *, ca=CA, not_before=NOW, not_after=NOW + 86_400):
    return issue_certificate(
        ca.private_key, ca.name, device_id, DEVICE.public_key(), not_before=not_before, not_after=not_after
    )


DER = certificate()


def test_a_certificate_tells_the_device_and_its_key():
    assert verify_certificate(DER, CA_KEY, NOW) == ("device-1", DEVICE.public_key())


def test_it_holds_from_its_first_to_its_last_second_and_time_is_an_argument():
    for now in (NOW, NOW + 86_400):
        verify_certificate(DER, CA_KEY, now)
    with pytest.raises(VerificationError, match="not yet valid"):
        verify_certificate(DER, CA_KEY, NOW - 1)
    with pytest.raises(VerificationError, match="expired"):
        verify_certificate(DER, CA_KEY, NOW + 86_401)
    with pytest.raises(VerificationError):
        verify_certificate(DER, CA_KEY, float("nan"))


def test_another_authority_is_refused_even_under_the_same_name():
    other = new_certificate_authority(CA.name, not_before=0, not_after=NOW * 2)
    with pytest.raises(VerificationError, match="not signed by"):
        verify_certificate(certificate(ca=other), CA_KEY, NOW)
    with pytest.raises(VerificationError, match="not signed by"):
        verify_certificate(DER, other.private_key.public_key(), NOW)


def test_the_authoritys_own_certificate_is_no_devices():
    with pytest.raises(VerificationError, match="not a device's"):
        verify_certificate(CA.certificate, CA_KEY, NOW)


def crafted(*, subject=None, key=None, signer=CA.private_key, ca=False, digital_signature=True, extra=None, bare=False):
    common_name = x509.NameAttribute(NameOID.COMMON_NAME, "device-1")
    builder = (
        x509.CertificateBuilder()
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CA.name)]))
        .subject_name(x509.Name(subject if subject is not None else [common_name]))
        .public_key(key or DEVICE.public_key())
        .serial_number(1)
        .not_valid_before(datetime.fromtimestamp(NOW, UTC))
        .not_valid_after(datetime.fromtimestamp(NOW + 60, UTC))
    )
    if not bare:
        unused = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
        unused += ("crl_sign", "encipher_only", "decipher_only")
        usage = dict.fromkeys(unused, False)
        usage |= {"digital_signature": digital_signature, "key_cert_sign": ca}
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
    if extra is not None:
        builder = builder.add_extension(extra, critical=False)
    algorithm = None if isinstance(signer, Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(signer, algorithm).public_bytes(Encoding.DER)


def name(value, oid=NameOID.COMMON_NAME):
    return x509.NameAttribute(oid, value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subject": []}, "common name"),
        ({"subject": [name("a"), name("b")]}, "common name"),
        ({"subject": [name("a", NameOID.ORGANIZATION_NAME)]}, "common name"),
        ({"subject": [name("../a")]}, "device id"),
        ({"subject": [name("a b")]}, "device id"),
        ({"key": ec.generate_private_key(ec.SECP256R1()).public_key()}, "not Ed25519"),
        ({"signer": ec.generate_private_key(ec.SECP256R1())}, "not signed with Ed25519"),
        ({"ca": True}, "not a device's"),
        ({"digital_signature": False}, "not a device's"),
        ({"bare": True}, "lacks"),
        ({"extra": x509.SubjectAlternativeName([x509.DNSName("other")])}, "unknown extensions"),
    ],
)
def test_certificates_of_another_form_are_refused_although_signed(changes, message):
    verify_certificate(crafted(), CA_KEY, NOW)
    with pytest.raises(VerificationError, match=message):
        verify_certificate(crafted(**changes), CA_KEY, NOW)


@given(st.data())
def test_a_mutated_certificate_is_refused(data):
    start = data.draw(st.integers(0, len(DER)))
    stop = data.draw(st.integers(start, min(len(DER), start + 4)))
    mutated = DER[:start] + data.draw(st.binary(max_size=4)) + DER[stop:]
    try:
        assert verify_certificate(mutated, CA_KEY, NOW) == ("device-1", DEVICE.public_key())
    except VerificationError:
        assert mutated != DER
    else:
        assert mutated == DER


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(data):
    with pytest.raises(VerificationError):
        verify_certificate(data, CA_KEY, NOW)


def test_an_oversized_certificate_is_refused():
    with pytest.raises(VerificationError, match="more than"):
        verify_certificate(DER + bytes(5000), CA_KEY, NOW)


@pytest.mark.parametrize("device_id", ["a", "A-1", "pi4.kitchen_2", "x" * 64, "0"])
def test_usable_device_ids(device_id):
    assert check_device_id(device_id) == device_id
    assert verify_certificate(certificate(device_id), CA_KEY, NOW)[0] == device_id


@pytest.mark.parametrize("device_id", ["", "-a", "a-", ".", "..", "a/b", "a b", "a\n", "ä", "x" * 65, "a\x00", None, 3])
def test_unusable_device_ids(device_id):
    with pytest.raises(InputError, match="device id"):
        check_device_id(device_id)


@pytest.mark.parametrize(("start", "end"), [(5, 5), (5, 4), (-1, 4), (0, 1e12), (0.1, 0.2), (float("nan"), 1)])
def test_impossible_periods_are_refused(start, end):
    with pytest.raises(InputError, match="valid from"):
        certificate(not_before=start, not_after=end)


def test_certificates_are_readable_by_other_software():
    parsed = x509.load_der_x509_certificate(DER)
    authority = x509.load_der_x509_certificate(CA.certificate)
    parsed.verify_directly_issued_by(authority)
    authority.verify_directly_issued_by(authority)
    assert parsed.version == x509.Version.v3
