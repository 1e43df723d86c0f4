from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.fleet.enrollment import Enrolment
from aggregator.fleet.keys import AggregatorKeys
from fedge.errors import InputError, VerificationError
from fedge.identity import EnrolmentRequest, RevocationList, request_certificate, verify_certificate

AUTHORITY = Ed25519PrivateKey.from_private_bytes(b"a" * 32)
DEVICE = Ed25519PrivateKey.from_private_bytes(b"d" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
NOW = 1_767_225_600.0


def request(device_id="d1", key=DEVICE, ca_name="fedge-enrolment"):
    return request_certificate(ca_name, device_id, key).to_bytes()


@pytest.fixture
def enrolment(tmp_path):
    return Enrolment(tmp_path / "authority", AUTHORITY)


def test_a_device_gets_a_certificate_for_a_day(enrolment):
    der = enrolment.issue(request(), now=NOW)
    public = AUTHORITY.public_key()
    for now in (NOW - 300, NOW, NOW + 86_400 - 300):
        assert verify_certificate(der, public, now) == ("d1", DEVICE.public_key())
    for now in (NOW - 301, NOW + 86_400):
        with pytest.raises(VerificationError):
            verify_certificate(der, public, now)


def test_a_device_renews_with_its_own_key_and_is_counted_once(enrolment, tmp_path):
    enrolment.issue(request(), now=NOW)
    enrolment.issue(request(), now=NOW + 50_000, lifetime_s=600)
    (device,) = Enrolment(tmp_path / "authority", AUTHORITY).devices()
    assert (device.device_id, device.issued, device.enrolled_at) == ("d1", 2, NOW)
    assert device.expires_at == NOW + 50_000 - 300 + 600
    assert device.public_key == DEVICE.public_key().public_bytes_raw()
    assert enrolment.device("d1") == device
    assert enrolment.device("d2") is None


def test_an_id_belongs_to_its_first_key(enrolment):
    enrolment.issue(request(), now=NOW)
    with pytest.raises(VerificationError, match="belongs to another key"):
        enrolment.issue(request(key=OTHER), now=NOW)
    assert enrolment.device("d1").issued == 1


def test_requests_without_proof_or_for_another_authority_are_refused(enrolment):
    honest = EnrolmentRequest.from_bytes(request())
    stolen = EnrolmentRequest(honest.ca_name, "d2", honest.public_key, honest.proof)
    for wrong in (stolen.to_bytes(), request(ca_name="elsewhere"), b"{}", b""):
        with pytest.raises(VerificationError):
            enrolment.issue(wrong, now=NOW)
    assert enrolment.devices() == []


def test_a_revoked_device_stays_out_and_on_the_signed_list(enrolment):
    for device_id in ("d1", "d2"):
        enrolment.issue(request(device_id), now=NOW)
    enrolment.revoke("d1", now=NOW + 5, reason="lost")
    enrolment.revoke("d1", now=NOW + 9, reason="again")
    with pytest.raises(VerificationError, match="revoked \\(lost\\)"):
        enrolment.issue(request(), now=NOW + 10)
    assert enrolment.device("d1").revoked_at == NOW + 5
    enrolment.issue(request("d2"), now=NOW + 10)
    signed = enrolment.signed_revocation_list(now=NOW + 11)
    expected = RevocationList(1, NOW + 11, frozenset({"d1"}))
    assert RevocationList.verify(signed, AUTHORITY.public_key(), not_older_than=NOW) == expected
    with pytest.raises(InputError, match="no device 'd9'"):
        enrolment.revoke("d9", now=NOW, reason="")


def test_of_many_keys_that_race_for_one_id_one_gets_it(enrolment):
    keys = [Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in range(12)]

    def attempt(key):
        try:
            enrolment.issue(request("d1", key), now=NOW)
        except VerificationError:
            return None
        return key.public_key().public_bytes_raw()

    with ThreadPoolExecutor(4) as pool:
        winners = [winner for winner in pool.map(attempt, keys) if winner]
    assert winners == [enrolment.device("d1").public_key]


def test_each_purpose_has_its_own_key_kept_for_its_owner_alone(tmp_path):
    keys = AggregatorKeys.open(tmp_path / "keys")
    again = AggregatorKeys.open(tmp_path / "keys")
    raw = [key.private_bytes_raw() for key in (keys.release, keys.round)]
    assert raw == [key.private_bytes_raw() for key in (again.release, again.round)]
    assert len(set(raw)) == 2
    for name in ("release.pem", "round.pem"):
        assert (tmp_path / "keys" / name).stat().st_mode & 0o777 == 0o600
    root = keys.trust_root(AUTHORITY.public_key())
    assert root.authority_key == AUTHORITY.public_key()
    assert root.release_key == keys.release.public_key()
    assert root.round_key == keys.round.public_key()
