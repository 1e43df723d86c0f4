"""Steps 3 to 5, on the device: what it refuses to a server that deviates."""

import numpy as np
import pytest
from secagg_cohort import Cohort, at_agreeing, at_masking, at_unmasking, private_key, raises

from fedge import secagg
from fedge.secagg import MessageError, RefusedError, StageError, keys
from protos.fedge.secagg.v1 import secagg_pb2 as pb

ME, PEER = "device-02", "device-03"


def delivery_with(cohort, change, name=ME) -> bytes:
    delivery = pb.ShareDelivery.FromString(cohort.delivery[name])
    change(delivery)
    return delivery.SerializeToString()


def refuses_shares(cohort, kind, message, delivery, vector=None):
    before = cohort.states[ME]
    with raises(kind, message):
        secagg.handle_shares(before, delivery, cohort.vectors[ME] if vector is None else vector)
    assert cohort.states[ME] is before
    assert cohort.masked(ME, cohort.delivery[ME])[1] is not None


def set_sharers(*positions):
    def change(delivery):
        inbound = dict(zip([1, 3, 4, 5], delivery.inbound, strict=True))
        del delivery.sharers[:], delivery.inbound[:]
        delivery.sharers.extend(positions)
        delivery.inbound.extend(inbound[position] for position in sorted(set(positions)) if position in inbound)

    return change


@pytest.mark.parametrize(
    ("positions", "kind", "message"),
    [
        ((1, 3, 4, 5), RefusedError, "this device (2) is not among those who shared: (1, 3, 4, 5)"),
        ((2, 3), RefusedError, "2 devices shared, fewer than n_min, which is 3"),
        ((1, 2, 2, 3), MessageError, "U1 is not an ascending set of positions in 1..5: (1, 2, 2, 3)"),
        ((2, 1, 3), MessageError, "U1 is not an ascending set of positions in 1..5: (2, 1, 3)"),
        ((0, 2, 3), MessageError, "U1 is not an ascending set of positions in 1..5: (0, 2, 3)"),
        ((2, 3, 6), MessageError, "U1 is not an ascending set of positions in 1..5: (2, 3, 6)"),
        ((), RefusedError, "this device (2) is not among those who shared: ()"),
    ],
)
def test_a_set_of_sharers_that_cannot_be_is_refused(positions, kind, message):
    cohort = at_masking(n_min=3)
    refuses_shares(cohort, kind, message, delivery_with(cohort, set_sharers(*positions)))


@pytest.mark.parametrize("positions", [(1, 2, 3), (2, 3, 4), (2, 4, 5)])
def test_a_smaller_set_of_sharers_down_to_n_min_is_masked_for(positions):
    cohort = at_masking(n_min=3)
    _, vector = cohort.masked(ME, delivery_with(cohort, set_sharers(*positions)))
    assert vector is not None
    assert cohort.states[ME].sharers == positions
    assert [share.dealer for share in cohort.states[ME].held] == list(positions)


def test_shares_of_another_session_are_refused():
    cohort = at_masking()
    other = delivery_with(cohort, lambda delivery: setattr(delivery, "session_id", bytes(32)))
    refuses_shares(cohort, MessageError, "the shares belong to another session", other)


def test_a_share_from_each_other_sharer():
    cohort = at_masking()
    fewer = delivery_with(cohort, lambda delivery: delivery.inbound.__delitem__(-1))
    refuses_shares(cohort, MessageError, "3 shares came from 4 dealers", fewer)


def swap(delivery):
    first, second = pb.InboundShare(), pb.InboundShare()
    first.CopyFrom(delivery.inbound[0])
    second.CopyFrom(delivery.inbound[1])
    delivery.inbound[0].CopyFrom(second)
    delivery.inbound[1].CopyFrom(first)


def flip(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def alter(path):
    def change(delivery):
        *parents, last = path.split(".")
        target = delivery.inbound[1]
        for parent in parents:
            target = getattr(target, parent)
        setattr(target, last, flip(getattr(target, last)))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swap, "the signature (shares) does not verify"),
        (alter("dealing.signature"), "the signature (shares) does not verify"),
        (alter("dealing.body"), "the signature (shares) does not verify"),
        (alter("share.ciphertext"), "the share for position 2 is not the one that was signed"),
        (alter("share.seed_commitment"), "the share for position 2 is not the one that was signed"),
        (alter("share.key_commitment"), "the share for position 2 is not the one that was signed"),
    ],
)
def test_what_a_dealer_did_not_sign_is_refused_and_gives_no_ground_to_complain(change, message):
    # A complaint would show the key of the dealer's true ciphertext: the server could collect shares that way.
    cohort = at_masking()
    refuses_shares(cohort, MessageError, message, delivery_with(cohort, change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: setattr(d, "session_id", bytes(32)), "the dealing belongs to another session or dealer"),
        (lambda d: setattr(d, "dealer", 4), "the dealing belongs to another session or dealer"),
        (lambda d: d.receivers.__delitem__(-1), "the dealing names 4 receivers, expected 5"),
        (lambda d: d.receivers.append(bytes(32)), "the dealing names 6 receivers, expected 5"),
    ],
)
def test_a_dealing_that_was_signed_for_something_else_is_refused(change, message):
    cohort = at_masking()

    def resign(delivery):
        signed = delivery.inbound[1].dealing
        dealing = pb.Dealing.FromString(signed.body)
        change(dealing)
        signed.body = dealing.SerializeToString()
        signed.signature = keys.sign(private_key(PEER), "shares", signed.body)

    refuses_shares(cohort, MessageError, message, delivery_with(cohort, resign))


def test_a_vector_of_another_shape_or_type_is_refused():
    good = at_masking().vectors[ME]
    for vector, message in (
        (good[:-1], "the vector is uint32 (5,), expected uint32 [6]"),
        (good.astype("<u2"), "the vector is uint16 (6,), expected uint32 [6]"),
        (good[None], "the vector is uint32 (1, 6), expected uint32 [6]"),
    ):
        cohort = at_masking()
        refuses_shares(cohort, MessageError, message, cohort.delivery[ME], vector)


def test_one_session_masks_one_vector():
    cohort = at_masking()
    original = cohort.vectors[ME].copy()
    reply, vector = cohort.masked(ME, cohort.delivery[ME])
    np.testing.assert_array_equal(cohort.vectors[ME], original, "the caller's vector is left alone")
    state, again, stored = secagg.handle_shares(cohort.states[ME], cohort.delivery[ME], original + 1)
    assert state is cohort.states[ME] and again == reply
    np.testing.assert_array_equal(stored, vector)
    smaller = delivery_with(cohort, set_sharers(2, 3, 4))
    with raises(StageError, "masked already, and the request differs from the one that was answered"):
        secagg.handle_shares(cohort.states[ME], smaller, original)


def test_every_mask_is_the_documented_one():
    cohort = at_masking()
    secrets = {name: cohort.states[name].secrets for name in cohort.names}
    session = cohort.server.session_id
    _, vector = cohort.masked(ME, cohort.delivery[ME])
    expected = cohort.vectors[ME].copy()

    def stream(key):
        return np.frombuffer(secagg.masks.key_stream(key, 24), dtype="<u4")

    expected += stream(keys.self_mask_key(secrets[ME].seed, session_id=session, device_id=ME))
    for name in cohort.names:
        if name != ME:
            agreed = keys.agree(keys.private_key_of(secrets[ME].mask_key), keys.public_key_of(secrets[name].mask_key))
            mask = stream(keys.pair_mask_key(agreed, session_id=session, first=ME, second=name))
            expected = expected + mask if name < ME else expected - mask
    np.testing.assert_array_equal(vector, expected)


def consistency_with(cohort, survivors, **changes) -> bytes:
    """A Consistency message of the server's own making."""
    body = pb.Consistency.FromString(pb.ConsistencyRequest.FromString(cohort.request[ME]).consistency)
    del body.survivors[:]
    body.survivors.extend(survivors)
    for name, value in changes.items():
        setattr(body, name, value)
    return body.SerializeToString()


@pytest.mark.parametrize(
    ("survivors", "changes", "kind", "message"),
    [
        (
            (1, 3, 4),
            {},
            RefusedError,
            "the survivors (1, 3, 4) leave this device (2) out or are not all among (1, 2, 3, 4, 5)",
        ),
        ((2, 3), {}, RefusedError, "2 devices delivered, fewer than n_min, which is 3"),
        ((2, 1, 3), {}, MessageError, "U2 is not an ascending set of positions in 1..5: (2, 1, 3)"),
        ((1, 2, 6), {}, MessageError, "U2 is not an ascending set of positions in 1..5: (1, 2, 6)"),
        ((1, 2, 3), {"session_id": bytes(32)}, MessageError, "the survivors belong to another session"),
        (
            (1, 2, 3),
            {"sharers_sha256": bytes(32)},
            RefusedError,
            "the aggregator told others of another set of sharers",
        ),
    ],
)
def test_a_set_of_survivors_that_cannot_be_is_not_signed(survivors, changes, kind, message):
    cohort = at_agreeing(n_min=3)
    before = cohort.states[ME]
    request = pb.ConsistencyRequest(consistency=consistency_with(cohort, survivors, **changes)).SerializeToString()
    with raises(kind, message):
        secagg.handle_consistency(before, request)
    cohort.consistency_reply(ME, cohort.request[ME])


def test_survivors_must_be_among_the_sharers():
    cohort = Cohort.open_fresh(5)
    cohort.delivery = cohort.share(cohort.messages, without=["device-05"])
    cohort.request = cohort.mask(cohort.delivery)
    request = pb.ConsistencyRequest(consistency=consistency_with(cohort, (1, 2, 3, 4, 5))).SerializeToString()
    with raises(
        RefusedError,
        "the survivors (1, 2, 3, 4, 5) leave this device (2) out or are not all among (1, 2, 3, 4)",
    ):
        secagg.handle_consistency(cohort.states[ME], request)


def test_one_set_of_survivors_is_signed_once():
    cohort = at_agreeing()
    signature = cohort.consistency_reply(ME, cohort.request[ME])
    assert cohort.consistency_reply(ME, cohort.request[ME]) == signature
    other = pb.ConsistencyRequest(consistency=consistency_with(cohort, (1, 2, 3))).SerializeToString()
    with raises(StageError, "agreed already, and the request differs from the one that was answered"):
        secagg.handle_consistency(cohort.states[ME], other)


def unmask_with(cohort, *, signers=(1, 2, 3, 4), body=None, signed=None, domain="consistency") -> bytes:
    """An UnmaskRequest of the server's own making, endorsed with the keys of ``signers`` on ``signed``."""
    body = body or pb.UnmaskRequest.FromString(cohort.final[ME]).consistency
    request = pb.UnmaskRequest(consistency=body)
    for signer in signers:
        signature = keys.sign(private_key(cohort.names[signer - 1]), domain, signed or body)
        request.endorsements.add(device=signer, signature=signature)
    return request.SerializeToString()


def refuses_unmask(cohort, kind, message, request):
    before = cohort.states[ME]
    with raises(kind, message):
        secagg.handle_unmask(before, request)
    cohort.unmask_reply(ME, cohort.final[ME])


def test_it_takes_t_signatures_of_different_survivors():
    assert Cohort(5).config.threshold(5) == 4
    for request, kind, message in (
        ({"signers": (1, 2, 3)}, RefusedError, "3 endorsements, it takes 4"),
        ({"signers": ()}, RefusedError, "0 endorsements, it takes 4"),
        ({"signers": (1, 2, 3, 3)}, RefusedError, "an endorsement stands twice or is not a survivor's"),
        ({"signers": (1, 2, 3, 4, 4)}, RefusedError, "an endorsement stands twice or is not a survivor's"),
        ({"signers": (1, 2, 3, 5)}, RefusedError, "an endorsement stands twice or is not a survivor's"),
        ({"signed": b"other"}, MessageError, "the signature (consistency) does not verify"),
        ({"domain": "record"}, MessageError, "the signature (consistency) does not verify"),
    ):
        cohort = at_unmasking()
        refuses_unmask(cohort, kind, message, unmask_with(cohort, **request))


def test_every_endorsement_is_verified():
    for position in range(4):
        cohort = at_unmasking()
        request = pb.UnmaskRequest.FromString(unmask_with(cohort))
        request.endorsements[position].signature = bytes(64)
        refuses_unmask(cohort, MessageError, "the signature (consistency) does not verify", request.SerializeToString())


def test_shares_are_revealed_only_for_the_survivors_that_the_device_signed():
    # A server with t colluding signers could otherwise ask for the mask key of a device whose seed it has.
    cohort = at_unmasking(7, without=())
    body = consistency_with(cohort, (1, 2, 3, 4, 5, 6))
    refuses_unmask(
        cohort,
        RefusedError,
        "the survivors are not the ones that this device signed",
        unmask_with(cohort, signers=(1, 2, 3, 4, 5), body=body),
    )


def test_each_sharer_is_revealed_once_and_by_one_kind_of_share():
    cohort = at_unmasking()
    held = {share.dealer: share for share in cohort.states[ME].held}
    reply = pb.UnmaskReply.FromString(cohort.unmask_reply(ME, cohort.final[ME]))
    assert (reply.session_id, reply.device) == (cohort.server.session_id, 2)
    assert [share.dealer for share in reply.seeds] == [1, 2, 3, 4]
    assert [share.dealer for share in reply.keys] == [5]
    for share in reply.seeds:
        assert (share.share, share.salt) == (held[share.dealer].seed_share, held[share.dealer].seed_salt)
    assert (reply.keys[0].share, reply.keys[0].salt) == (held[5].key_share, held[5].key_salt)


def test_a_second_different_unmask_request_is_refused_and_the_same_gets_the_stored_answer():
    cohort = at_unmasking()
    reply = cohort.unmask_reply(ME, cohort.final[ME])
    assert cohort.unmask_reply(ME, cohort.final[ME]) == reply
    other = unmask_with(cohort, body=consistency_with(cohort, (1, 2, 3, 4)), signers=(4, 3, 2, 1))
    with raises(StageError, "revealed already, and the request differs from the one that was answered"):
        secagg.handle_unmask(cohort.states[ME], other)
