"""The bytes that dealings, commitments and transcripts are made of, written down a second time."""

import hashlib

import pytest
from secagg_cohort import Cohort, certificate

from fedge.secagg import SessionAborted, keys, shamir, sharing
from fedge.secagg.masks import key_stream
from protos.fedge.secagg.v1 import secagg_pb2 as pb

ME = "device-02"


def framed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@pytest.fixture
def dealt():
    """What device 2 dealt to a cohort of four, all shares opened with the receivers' keys."""
    cohort = Cohort.open_fresh(4)
    session, states = cohort.server.session, dict(cohort.states)
    reply = pb.ShareReply.FromString(cohort.roster_reply(ME, cohort.messages[ME]))
    held = {2: cohort.states[ME].held[0]}
    for receiver, name in enumerate(cohort.names, start=1):
        if name != ME:
            channel = keys.private_key_of(states[name].secrets.channel_key)
            key = sharing.inbound_key(session, receiver, 2, channel)
            plaintext = sharing.decrypt(session, receiver, 2, reply.shares[receiver - 1], key)
            held[receiver] = sharing.held_share(session, receiver, 2, reply.shares[receiver - 1], plaintext)
    return session, states[ME].secrets, reply, held


def test_a_commitment_binds_session_dealer_receiver_kind_share_and_salt(dealt):
    session, _, reply, held = dealt
    for receiver, share in held.items():
        positions = (2).to_bytes(4, "big") + receiver.to_bytes(4, "big")
        for kind, value, salt, found in (
            (b"seed", share.seed_share, share.seed_salt, reply.shares[receiver - 1].seed_commitment),
            (b"key", share.key_share, share.key_salt, reply.shares[receiver - 1].key_commitment),
        ):
            assert found == sha256(framed(b"fedge/sa/2/commitment", session.session_id, positions, kind, value, salt))


def test_the_dealing_names_every_share_by_its_hash(dealt):
    session, _, reply, _ = dealt
    dealing = pb.Dealing.FromString(reply.dealing.body)
    assert (dealing.session_id, dealing.dealer, len(reply.shares)) == (session.session_id, 2, 4)
    for share, found in zip(reply.shares, dealing.receivers, strict=True):
        parts = (share.seed_commitment, share.key_commitment, share.ciphertext)
        assert found == sha256(framed(b"fedge/sa/2/dealt", *parts))
    assert [len(share.ciphertext) for share in reply.shares] == [146, 0, 146, 146]


def test_no_salt_and_no_share_is_used_twice(dealt):
    # One salt for two shares would let the opening of the one tell about the commitment to the other.
    _, _, _, held = dealt
    salts = [salt for share in held.values() for salt in (share.seed_salt, share.key_salt)]
    shares = [value for share in held.values() for value in (share.seed_share, share.key_share)]
    assert len(set(salts)) == len(set(shares)) == 8
    assert {len(salt) for salt in salts} == {32} and {len(share) for share in shares} == {33}


def test_the_randomness_of_a_dealing_is_the_stream_of_its_seed_under_this_session(dealt):
    session, secrets, _, held = dealt
    key = keys.derive(secrets.dealing_seed, session_id=session.session_id, label=framed(b"deal"))
    size = 48 * 2
    stream = key_stream(key, 2 * size + 2 * 32 * 4)
    for secret, randomness, found in (
        (secrets.seed, stream[:size], [held[receiver].seed_share for receiver in range(1, 5)]),
        (secrets.mask_key, stream[size : 2 * size], [held[receiver].key_share for receiver in range(1, 5)]),
    ):
        assert shamir.split(secret, t=3, n=4, randomness=randomness) == found
    salts = [held[receiver].seed_salt for receiver in range(1, 5)] + [held[receiver].key_salt for receiver in range(1, 5)]
    assert b"".join(salts) == stream[2 * size :]


def test_the_hash_of_a_set_of_positions_binds_the_session(dealt):
    session, *_ = dealt
    expected = sha256(session.session_id + b"\0\0\0\1" + b"\0\0\0\4")
    assert session.set_hash((1, 4)) == expected != session.set_hash((1, 3))


def test_an_aborted_roster_says_what_was_wrong_with_each_device():
    cohort = Cohort(4, n_min=4)
    cohort.check_in()
    for name in ("device-02", "device-03"):
        bundle = pb.SignedBundle.FromString(cohort.bundles[name])
        bundle.certificate = certificate("stranger")
        cohort.bundles[name] = bundle.SerializeToString()
    with pytest.raises(SessionAborted) as caught:
        cohort.open()
    wrong = "the bundle was signed beside another certificate"
    assert caught.value.reason == f"2 devices, expected 4 to 4 (device-02: {wrong}; device-03: {wrong})"
    assert caught.value.exclude == {"device-02", "device-03"}
