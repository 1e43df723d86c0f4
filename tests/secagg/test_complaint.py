"""A dealer that deals badly, and a device that says so without ground."""

from dataclasses import replace

import numpy as np
import pytest
from secagg_cohort import Cohort, private_key, raises

from fedge import secagg
from fedge.secagg import MessageError, Phase, SessionAborted, StageError, keys
from fedge.secagg.sharing import entry, inbound_key
from protos.fedge.secagg.v1 import secagg_pb2 as pb

DEALER, VICTIM = "device-01", "device-03"


def cheat(cohort, reply: bytes, how: str, *, victims=(3,)) -> bytes:
    """The dealer's reply with bad shares for the victims, signed by the dealer as if they were good."""
    message = pb.ShareReply.FromString(reply)
    dealing = pb.Dealing.FromString(message.dealing.body)
    session, secrets = cohort.server.session, cohort.states[DEALER].secrets
    for victim in victims:
        share, peer = message.shares[victim - 1], session.member(victim)
        agreed = keys.agree(keys.private_key_of(secrets.channel_key), peer.channel_key)
        ends = {"session_id": session.session_id, "sender": DEALER, "receiver": peer.device_id}
        key = keys.channel_key(agreed, **ends)
        plaintext = keys.unseal(key, share.ciphertext, **ends)
        if how == "does not open":
            share.ciphertext = bytes(len(share.ciphertext))
        elif how == "other seed share":
            share.ciphertext = keys.seal(key, bytes(33) + plaintext[33:], **ends)
        elif how == "other key share":
            share.ciphertext = keys.seal(key, plaintext[:65] + bytes(33) + plaintext[98:], **ends)
        elif how == "other salt":
            share.ciphertext = keys.seal(key, plaintext[:-1] + bytes([plaintext[-1] ^ 1]), **ends)
        elif how == "short":
            share.ciphertext = keys.seal(key, plaintext[:-1], **ends)
        dealing.receivers[victim - 1] = entry(share)
    message.dealing.body = dealing.SerializeToString()
    message.dealing.signature = keys.sign(private_key(DEALER), "shares", message.dealing.body)
    return message.SerializeToString()


def at_masking_with_a_cheat(how: str, *, n=5, victims=(3,), **config):
    cohort = Cohort.open_fresh(n, **config)
    for name, message in cohort.messages.items():
        reply = cohort.roster_reply(name, message)
        if name == DEALER:
            reply = cheat(cohort, reply, how, victims=victims)
        secagg.handle_roster_reply(cohort.server, name, reply)
    cohort.delivery = secagg.create_share_messages(cohort.server)
    return cohort


def deliver(cohort, names):
    for name in names:
        reply, vector = cohort.masked(name, cohort.delivery[name])
        secagg.handle_masked(cohort.server, name, reply, vector)


@pytest.mark.parametrize("how", ["other seed share", "other key share", "other salt"])
def test_a_share_that_does_not_match_its_commitment_ends_the_session_and_names_the_dealer(how):
    cohort = at_masking_with_a_cheat(how)
    reply, vector = cohort.masked(VICTIM, cohort.delivery[VICTIM])
    assert vector is None
    assert pb.MaskedReply.FromString(reply).WhichOneof("kind") == "complaint"
    secagg.handle_masked(cohort.server, VICTIM, reply, vector)
    deliver(cohort, [name for name in cohort.names if name != VICTIM])
    with pytest.raises(SessionAborted) as caught:
        secagg.create_consistency_messages(cohort.server)
    assert str(caught.value) == "the session aborts at masked input: device-01 dealt bad shares"
    assert (caught.value.stage, caught.value.exclude) == ("masked input", {DEALER})
    assert cohort.server.total.size == 0, "nothing is released"


def test_a_device_that_complained_takes_no_further_part_and_keeps_no_secrets():
    cohort = at_masking_with_a_cheat("other seed share")
    reply, _ = cohort.masked(VICTIM, cohort.delivery[VICTIM])
    state = cohort.states[VICTIM]
    assert (state.phase, state.secrets, state.held, state.spent) == (Phase.COMPLAINED, None, (), False)
    again, again_reply, vector = secagg.handle_shares(state, cohort.delivery[VICTIM], cohort.vectors[VICTIM])
    assert (again, again_reply, vector) == (state, reply, None)
    with raises(StageError, "complained already, and the request differs from the one that was answered"):
        secagg.handle_shares(state, cohort.delivery["device-02"], cohort.vectors[VICTIM])
    with raises(StageError, "the device is complained, not masked as this message needs it"):
        secagg.handle_consistency(state, b"")


def test_a_complaint_shows_one_ciphertext_of_the_dealer_and_no_one_elses():
    cohort = at_masking_with_a_cheat("other seed share")
    session, secrets = cohort.server.session, cohort.states[VICTIM].secrets
    reply, _ = cohort.masked(VICTIM, cohort.delivery[VICTIM])
    complaint = pb.Complaint.FromString(pb.MaskedReply.FromString(reply).complaint.body)
    channel = keys.private_key_of(secrets.channel_key)
    assert (complaint.session_id, complaint.complainer, complaint.dealer) == (session.session_id, 3, 1)
    assert complaint.key == inbound_key(session, 3, 1, channel)
    assert all(inbound_key(session, 3, other, channel) not in reply for other in (2, 4, 5))


def test_a_ciphertext_that_does_not_open_costs_the_complainer_its_place_but_not_the_session():
    # Nobody can tell from outside whether the dealer or the complainer lies, so the session goes on if it can.
    cohort = at_masking_with_a_cheat("does not open")
    deliver(cohort, cohort.names)
    request = secagg.create_consistency_messages(cohort.server)
    assert sorted(request) == [name for name in cohort.names if name != VICTIM]
    outcome = cohort.unmask(cohort.agree(request))
    assert VICTIM not in outcome.survivors
    np.testing.assert_array_equal(outcome.total, cohort.sum_of(outcome.survivors))


def test_where_unproven_complaints_leave_too_few_both_sides_are_named():
    cohort = at_masking_with_a_cheat("does not open", victims=(3, 4))
    deliver(cohort, cohort.names)
    with pytest.raises(SessionAborted) as caught:
        secagg.create_consistency_messages(cohort.server)
    assert caught.value.reason == "3 of 5 devices answered, it takes 4"
    assert caught.value.exclude == {DEALER, VICTIM, "device-04"}


def test_only_the_proven_dealer_is_named_beside_an_unproven_complaint():
    cohort = at_masking_with_a_cheat("other salt")
    deliver(cohort, cohort.names)
    secagg_server = cohort.server
    secagg_server.complaints[4] = (2, False)
    with pytest.raises(SessionAborted) as caught:
        secagg.create_consistency_messages(secagg_server)
    assert caught.value.exclude == {DEALER}


def false_complaint(cohort, change=lambda complaint: None, *, key=None, dealer=1, signer=VICTIM) -> bytes:
    """Device 3 complains about a share that is good."""
    session = cohort.server.session
    delivery = pb.ShareDelivery.FromString(cohort.delivery[VICTIM])
    channel = keys.private_key_of(cohort.states[VICTIM].secrets.channel_key)
    complaint = pb.Complaint(
        session_id=session.session_id,
        complainer=3,
        dealer=dealer,
        shown=delivery.inbound[0],
        key=key or inbound_key(session, 3, 1, channel),
    )
    change(complaint)
    body = complaint.SerializeToString()
    signed = pb.Signed(body=body, signature=keys.sign(private_key(signer), "complaint", body))
    return pb.MaskedReply(complaint=signed).SerializeToString()


def flip_ciphertext(complaint):
    share = complaint.shown.share
    share.ciphertext = bytes([share.ciphertext[0] ^ 1]) + share.ciphertext[1:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "the complaint about position 1 is false: the share is good"),
        ({"signer": "device-04"}, "the signature (complaint) does not verify"),
        (
            {"change": lambda c: setattr(c, "session_id", bytes(32))},
            "the complaint belongs to another session or device",
        ),
        ({"change": lambda c: setattr(c, "complainer", 2)}, "the complaint belongs to another session or device"),
        ({"dealer": 3}, "a device cannot complain about itself"),
        ({"dealer": 2}, "the signature (shares) does not verify"),
        ({"dealer": 0}, "position 0 is outside the roster of 5"),
        ({"dealer": 6}, "position 6 is outside the roster of 5"),
        ({"change": flip_ciphertext}, "the share for position 3 is not the one that was signed"),
        ({"key": b"short"}, "the key shown has 5 bytes, expected 32"),
    ],
)
def test_a_false_or_malformed_complaint_is_blamed_on_the_complainer(arguments, message):
    cohort = Cohort.open_fresh(5)
    cohort.delivery = cohort.share(cohort.messages)
    with raises(MessageError, message, blames=VICTIM):
        secagg.handle_masked(cohort.server, VICTIM, false_complaint(cohort, **arguments), None)
    deliver(cohort, cohort.names)
    assert len(secagg.create_consistency_messages(cohort.server)) == 5


def test_a_made_up_key_cannot_prove_anything():
    cohort = Cohort.open_fresh(5)
    cohort.delivery = cohort.share(cohort.messages)
    secagg.handle_masked(cohort.server, VICTIM, false_complaint(cohort, key=b"k" * 32), None)
    assert cohort.server.complaints == {3: (1, False)}
    deliver(cohort, [name for name in cohort.names if name != VICTIM])
    assert len(secagg.create_consistency_messages(cohort.server)) == 4


def test_shares_on_two_polynomials_are_noticed_at_recovery():
    # Each share matches its commitment, so no device can complain; but no secret fits all of them.
    for drop, what in ((), "seed of its mask"), ((DEALER,), "mask key"):
        cohort = Cohort.open_fresh(5)
        split_in_two(cohort)
        delivery = cohort.share(cohort.messages)
        request = cohort.mask(delivery, without=drop)
        final = cohort.agree(request)
        with pytest.raises(SessionAborted) as caught:
            cohort.unmask(final)
        assert caught.value.reason == f"the shares that device-01 dealt do not give {'the ' if not drop else 'its '}{what}"
        assert caught.value.exclude == {DEALER} and caught.value.stage == "unmasking"


def split_in_two(cohort):
    """The dealer deals shares of other secrets than those that its bundle commits to."""
    state = cohort.states[DEALER]
    cohort.states[DEALER] = replace(state, secrets=replace(state.secrets, seed=b"\1" * 32, mask_key=b"\2" * 32))
