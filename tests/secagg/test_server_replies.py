"""Steps 2 to 5, on the server: a bad reply is blamed on its device and changes nothing; the session goes on."""

import numpy as np
import pytest
from secagg_cohort import Cohort, finishes, private_key, raises, reaches

from fedge import secagg
from fedge.secagg import MessageError, StageError, keys
from protos.fedge.secagg.v1 import secagg_pb2 as pb

BAD, GOOD = "device-03", "device-02"


def handler(stage):
    name = {"share": "roster_reply", "mask": "masked", "agree": "consistency_reply", "unmask": "unmask_reply"}[stage]

    def handle(cohort, device_id, reply, vector=None):
        if stage == "mask":
            return secagg.handle_masked(cohort.server, device_id, reply, vector)
        return getattr(secagg, f"handle_{name}")(cohort.server, device_id, reply)

    def answer(cohort, device_id):
        answered = getattr(cohort, name)(device_id, cohort.messages[device_id])
        return answered if stage == "mask" else (answered, None)

    return handle, answer


STAGES = {"share": "share keys", "mask": "masked input", "agree": "consistency", "unmask": "unmasking"}
KINDS = {"share": pb.ShareReply, "mask": pb.MaskedReply, "agree": pb.ConsistencyReply, "unmask": pb.UnmaskReply}


@pytest.mark.parametrize("stage", STAGES)
def test_garbage_strangers_and_repetitions_change_nothing(stage):
    cohort = reaches(stage)
    handle, answer = handler(stage)
    kind = KINDS[stage].__name__
    limit = {"share": 131072, "mask": 65536, "agree": 4096, "unmask": 32768}[stage]
    with raises(MessageError, f"{kind}: the 1 bytes are not such a message", blames=BAD):
        handle(cohort, BAD, b"\xff")
    with raises(MessageError, f"{kind}: {limit + 1} bytes, more than the limit of {limit}", blames=BAD):
        handle(cohort, BAD, bytes(limit + 1))
    with raises(MessageError, f"{kind}: the {limit} bytes are not such a message", blames=BAD):
        handle(cohort, BAD, bytes(limit))
    with raises(MessageError, "nobody is not in the roster", blames="nobody"):
        handle(cohort, "nobody", b"")
    reply, vector = answer(cohort, GOOD)
    handle(cohort, GOOD, reply, vector)
    handle(cohort, GOOD, reply, vector)
    with raises(StageError, f"a second reply to {STAGES[stage]} differs from the first", blames=GOOD):
        handle(cohort, GOOD, reply + b"\0", vector)
    finishes(cohort, stage)


@pytest.mark.parametrize("stage", STAGES)
def test_a_reply_for_a_stage_that_is_closed_or_not_yet_open_is_refused(stage):
    later = {"share": "mask", "mask": "agree", "agree": "unmask", "unmask": "share"}[stage]
    cohort = reaches(later)
    handle, _ = handler(stage)
    message = f"a reply to {STAGES[stage]} comes while the session is at {STAGES[later]}"
    with raises(StageError, message, blames=GOOD):
        handle(cohort, GOOD, b"")
    finishes(cohort, later)


@pytest.mark.parametrize("stage", ["agree", "unmask"])
def test_a_device_that_dropped_out_has_no_place_later(stage):
    cohort = reaches(stage)
    handle, _ = handler(stage)
    with raises(MessageError, f"the device takes no part in {STAGES[stage]}", blames="device-05"):
        handle(cohort, "device-05", b"")


def share_reply(cohort, change, *, resign=True) -> bytes:
    message = pb.ShareReply.FromString(cohort.roster_reply(BAD, cohort.messages[BAD]))
    dealing = pb.Dealing.FromString(message.dealing.body)
    change(message, dealing)
    if resign:
        message.dealing.body = dealing.SerializeToString()
        message.dealing.signature = keys.sign(private_key(BAD), "shares", message.dealing.body)
    return message.SerializeToString()


def short(field, receiver, value):
    """A share whose field has the wrong size, named in the dealing as if it were fine."""

    def change(message, dealing):
        setattr(message.shares[receiver], field, value)
        dealing.receivers[receiver] = secagg.sharing.entry(message.shares[receiver])

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, d: setattr(d, "session_id", b"1"), "the dealing belongs to another session or dealer"),
        (lambda m, d: setattr(d, "dealer", 2), "the dealing belongs to another session or dealer"),
        (lambda m, d: d.receivers.append(b""), "the dealing names 6 receivers, expected 5"),
        (lambda m, d: m.shares.__delitem__(-1), "4 shares came, expected 5"),
        (lambda m, d: m.shares.add(), "6 shares came, expected 5"),
        (
            lambda m, d: setattr(m.shares[3], "seed_commitment", bytes(32)),
            "the share for position 4 is not the one that was signed",
        ),
        (
            lambda m, d: d.receivers.__setitem__(0, bytes(32)),
            "the share for position 1 is not the one that was signed",
        ),
        (short("seed_commitment", 0, b"1"), "a commitment to a seed share has 1 bytes, expected 32"),
        (short("key_commitment", 4, b"12"), "a commitment to a key share has 2 bytes, expected 32"),
        (short("ciphertext", 1, b""), "a ciphertext has 0 bytes, expected 146"),
        (short("ciphertext", 1, bytes(147)), "a ciphertext has 147 bytes, expected 146"),
        (short("ciphertext", 2, bytes(146)), "a ciphertext has 146 bytes, expected 0"),
    ],
)
def test_a_dealing_that_is_not_whole_is_refused_and_the_session_goes_on_without_it(change, message):
    cohort = reaches("share")
    with raises(MessageError, message, blames=BAD):
        secagg.handle_roster_reply(cohort.server, BAD, share_reply(cohort, change))
    outcome = finishes(cohort, "share", without=[BAD])
    assert BAD not in outcome.survivors and len(outcome.survivors) == 4


def test_a_dealing_must_be_signed_by_its_dealer():
    cohort = reaches("share")
    reply = cohort.roster_reply(GOOD, cohort.messages[GOOD])
    with raises(MessageError, "the signature (shares) does not verify", blames=BAD):
        secagg.handle_roster_reply(cohort.server, BAD, reply)


def masked_reply(cohort, change=lambda body: None, *, signer=BAD, domain="vector"):
    reply, vector = cohort.masked(BAD, cohort.messages[BAD])
    message = pb.MaskedReply.FromString(reply)
    body = pb.MaskedVector.FromString(message.vector.body)
    change(body)
    message.vector.body = body.SerializeToString()
    message.vector.signature = keys.sign(private_key(signer), domain, message.vector.body)
    return message.SerializeToString(), vector


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"signer": GOOD}, "the signature (vector) does not verify"),
        ({"domain": "complaint"}, "the signature (vector) does not verify"),
        (
            {"change": lambda b: setattr(b, "session_id", bytes(32))},
            "the vector belongs to another session or device",
        ),
        ({"change": lambda b: setattr(b, "device", 2)}, "the vector belongs to another session or device"),
        (
            {"change": lambda b: setattr(b, "sharers_sha256", bytes(32))},
            "the vector was masked for another set of sharers",
        ),
        (
            {"change": lambda b: setattr(b, "vector_blake2b", bytes(32))},
            "the vector is not the one that was signed",
        ),
    ],
)
def test_a_vector_that_is_not_the_signed_one_is_not_added(arguments, message):
    cohort = reaches("mask")
    reply, vector = masked_reply(cohort, **arguments)
    with raises(MessageError, message, blames=BAD):
        secagg.handle_masked(cohort.server, BAD, reply, vector)
    assert not cohort.server.total.any()
    finishes(cohort, "mask", without=[BAD])


def test_a_vector_comes_as_an_array_or_as_bytes_and_whole():
    cohort = reaches("mask")
    reply, vector = cohort.masked(BAD, cohort.messages[BAD])
    for data, message in (
        (None, "the vector is missing"),
        (vector[:-1], "the vector is uint32 (5,), expected uint32 [6]"),
        (vector.astype("<u8"), "the vector is uint64 (6,), expected uint32 [6]"),
        (vector.tobytes()[:-1], "the vector has 23 bytes, expected 24"),
        (vector + 1, "the vector is not the one that was signed"),
    ):
        with raises(MessageError, message, blames=BAD):
            secagg.handle_masked(cohort.server, BAD, reply, data)
    strided = np.repeat(vector, 2)[::2]
    secagg.handle_masked(cohort.server, BAD, reply, strided)
    np.testing.assert_array_equal(cohort.server.total, vector)
    reply, vector = cohort.masked(GOOD, cohort.messages[GOOD])
    secagg.handle_masked(cohort.server, GOOD, reply, vector.tobytes())
    finishes(cohort, "mask")


def test_a_repeated_vector_is_added_once():
    cohort = reaches("mask")
    reply, vector = cohort.masked(BAD, cohort.messages[BAD])
    for _ in range(2):
        secagg.handle_masked(cohort.server, BAD, reply, vector)
    np.testing.assert_array_equal(cohort.server.total, vector)


def test_a_masked_reply_says_one_of_two_things():
    cohort = reaches("mask")
    with raises(MessageError, "the reply holds neither a vector nor a complaint", blames=BAD):
        secagg.handle_masked(cohort.server, BAD, b"", None)


def test_a_signature_on_other_survivors_is_refused():
    cohort = reaches("agree")
    other = pb.ConsistencyReply(signature=keys.sign(private_key(BAD), "consistency", b"other")).SerializeToString()
    with raises(MessageError, "the signature (consistency) does not verify", blames=BAD):
        secagg.handle_consistency_reply(cohort.server, BAD, other)
    finishes(cohort, "agree")


def test_the_request_to_unmask_goes_to_those_who_signed_and_shows_t_signatures():
    cohort = Cohort.open_fresh(8)
    messages = cohort.agree(cohort.mask(cohort.share(cohort.messages)), without=["device-02"])
    assert list(messages) == [name for name in cohort.names if name != "device-02"]
    request = pb.UnmaskRequest.FromString(messages[BAD])
    assert [endorsement.device for endorsement in request.endorsements] == [1, 3, 4, 5, 6, 7]


def unmask_reply(cohort, change):
    message = pb.UnmaskReply.FromString(cohort.unmask_reply(BAD, cohort.messages[BAD]))
    change(message)
    return message.SerializeToString()


def flip(share, field):
    value = getattr(share, field)
    setattr(share, field, value[:-1] + bytes([value[-1] ^ 1]))


def both_kinds(message):
    """Device 5 dropped out: a seed share beside its key share would open both its secrets."""
    message.seeds.add(dealer=5, share=bytes(33), salt=bytes(32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: setattr(m, "session_id", b""), "the shares belong to another session or device"),
        (lambda m: setattr(m, "device", 2), "the shares belong to another session or device"),
        (lambda m: m.seeds.__delitem__(0), "seed shares must be those of [1, 2, 3, 4]"),
        (both_kinds, "seed shares must be those of [1, 2, 3, 4]"),
        (lambda m: m.keys.__delitem__(0), "key shares must be those of [5]"),
        (lambda m: m.keys.add(dealer=1), "key shares must be those of [5]"),
        (lambda m: flip(m.seeds[1], "share"), "the seed share of position 2 is not the one that was dealt"),
        (lambda m: flip(m.seeds[3], "salt"), "the seed share of position 4 is not the one that was dealt"),
        (lambda m: flip(m.keys[0], "share"), "the key share of position 5 is not the one that was dealt"),
        (lambda m: flip(m.keys[0], "salt"), "the key share of position 5 is not the one that was dealt"),
    ],
)
def test_shares_that_were_not_dealt_are_blamed_on_who_shows_them(change, message):
    cohort = Cohort.open_fresh(8)
    delivery = cohort.share(cohort.messages, without=["device-06"])
    cohort.messages = cohort.agree(cohort.mask(delivery, without=["device-05"]))
    # Eight devices, the sixth never shared and the fifth never delivered.
    text = message.replace("[1, 2, 3, 4]", "[1, 2, 3, 4, 7, 8]")
    with raises(MessageError, text, blames=BAD):
        secagg.handle_unmask_reply(cohort.server, BAD, unmask_reply(cohort, change))
    assert cohort.server.reveals == {}
