import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fedge.errors import InputError, VerificationError
from fedge.identity import EnrolmentRequest, RevocationList, TrustRoot, request_certificate
from fedge.identity.revocation import REVOCATION_DOMAIN
from fedge.release import SignedDocument, to_canonical

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
REQUEST = request_certificate("fedge", "device-1", KEY)


def test_a_request_proves_possession_of_its_key():
    again = EnrolmentRequest.from_bytes(REQUEST.to_bytes())
    assert again == REQUEST
    assert again.verify() == KEY.public_key()


@pytest.mark.parametrize(
    "changes",
    [
        {"ca_name": "another"},
        {"device_id": "device-2"},
        {"public_key": OTHER.public_key().public_bytes_raw()},
        {"public_key": b"short"},
        {"proof": bytes(64)},
    ],
)
def test_a_request_altered_in_any_field_proves_nothing(changes):
    fields = {name: getattr(REQUEST, name) for name in ("ca_name", "device_id", "public_key", "proof")}
    with pytest.raises(VerificationError):
        EnrolmentRequest(**(fields | changes)).verify()


@given(st.data())
def test_mutated_request_bytes_are_refused(data):
    original = REQUEST.to_bytes()
    start = data.draw(st.integers(0, len(original)))
    stop = data.draw(st.integers(start, min(len(original), start + 4)))
    mutated = original[:start] + data.draw(st.binary(max_size=4)) + original[stop:]
    try:
        EnrolmentRequest.from_bytes(mutated).verify()
    except VerificationError:
        assert mutated != original
    else:
        assert mutated == original


def test_a_request_for_an_unusable_id_is_refused_on_both_ends():
    with pytest.raises(InputError):
        request_certificate("fedge", "../x", KEY)
    fields = {"ca_name": "fedge", "device_id": "../x", "public_key": "00" * 32, "proof": "00" * 64}
    for changes in ({}, {"device_id": 3}, {"device_id": "a", "ca_name": None}):
        with pytest.raises(VerificationError):
            EnrolmentRequest.from_bytes(to_canonical(fields | changes))


def test_a_revocation_list_comes_back_only_as_signed():
    revoked = RevocationList(2, 1000.0, frozenset({"b", "a"}))
    data = revoked.sign(KEY)
    assert RevocationList.verify(data, KEY.public_key()) == revoked
    with pytest.raises(VerificationError, match="does not verify"):
        RevocationList.verify(data, OTHER.public_key())
    with pytest.raises(VerificationError):
        RevocationList.verify(data.replace(b"A", b"B", 1), KEY.public_key())


def test_a_revocation_list_that_is_too_old_is_refused():
    data = RevocationList(0, 1000, frozenset()).sign(KEY)
    RevocationList.verify(data, KEY.public_key(), not_older_than=1000)
    with pytest.raises(VerificationError, match="older"):
        RevocationList.verify(data, KEY.public_key(), not_older_than=1000.5)


@pytest.mark.parametrize(
    "changes",
    [{"number": -1}, {"number": True}, {"issued_at": 1}, {"device_ids": "ab"}, {"device_ids": ["a/b"]}, {"device_ids": [1]}],
)
def test_a_malformed_revocation_list_is_refused_although_signed(changes):
    payload = to_canonical({"number": 1, "issued_at": 1.0, "device_ids": []} | changes)
    data = SignedDocument.sign(KEY, REVOCATION_DOMAIN, payload).to_bytes()
    with pytest.raises(VerificationError):
        RevocationList.verify(data, KEY.public_key())


def test_a_trust_root_comes_back_and_its_fingerprint_covers_every_key():
    keys = [Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32).public_key() for i in range(4)]
    root = TrustRoot("fedge", *keys[:3])
    assert TrustRoot.from_bytes(root.to_bytes()) == root
    others = [TrustRoot("other", *keys[:3]), TrustRoot("fedge", keys[0], keys[1], keys[3])]
    others += [TrustRoot("fedge", keys[1], keys[0], keys[2])]
    assert len({root.fingerprint, *(other.fingerprint for other in others)}) == 4
    with pytest.raises(VerificationError, match="share a key"):
        TrustRoot.from_bytes(TrustRoot("fedge", keys[0], keys[0], keys[1]).to_bytes())
    with pytest.raises(VerificationError, match="ca_name"):
        TrustRoot.from_bytes(TrustRoot("", *keys[:3]).to_bytes())
