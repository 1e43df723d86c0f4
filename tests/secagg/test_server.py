"""Steps 1 to 6, on the server: a bad reply is blamed on its device and changes nothing, the session goes on."""

import numpy as np
import pytest
from secagg_cohort import DEADLINE, EXPIRES, NOW, Cohort, certificate, private_key, raises, rebundle

from fedge import secagg
from fedge.secagg import MessageError, SessionAborted, Stage, StageError, keys
from protos.fedge.secagg.v1 import secagg_pb2 as pb

BAD, GOOD = "device-03", "device-02"


def reaches(stage: str, n=5, **config) -> Cohort:
    """A cohort just before it answers at ``stage``; the messages to it stand in ``messages``."""
    cohort = Cohort.open_fresh(n, **config)
    for step in ("share", "mask", "agree"):
        if step == stage:
            break
        without = ["device-05"] if step == "mask" else []
        cohort.messages = getattr(cohort, step)(cohort.messages, without=without)
    return cohort


def finishes(cohort, stage, without=()):
    """Runs the rest of the session and checks the sum."""
    messages = cohort.messages
    steps = ["share", "mask", "agree", "unmask"]
    for step in steps[steps.index(stage) :]:
        messages = getattr(cohort, step)(messages, without=without if step == stage else ())
    outcome = messages
    np.testing.assert_array_equal(outcome.total, cohort.sum_of(outcome.survivors))
    return outcome


def test_every_device_gets_the_same_signed_roster():
    cohort = Cohort(3)
    messages = cohort.open(round=9, attempt=4)
    assert list(messages) == cohort.names and len(set(messages.values())) == 1
    roster = pb.Roster.FromString(messages[GOOD])
    keys.verify(private_key("round").public_key(), "descriptor", roster.descriptor, roster.signature)
    assert list(roster.bundles) == [cohort.bundles[name] for name in cohort.names]
    descriptor = secagg.session.Descriptor.from_bytes(roster.descriptor)
    assert descriptor.config == cohort.config and (descriptor.round, descriptor.attempt) == (9, 4)
    assert [name for name, _ in descriptor.roster] == cohort.names
    configuration = pb.Descriptor.FromString(roster.descriptor).configuration
    assert (configuration.threshold, configuration.consistency_threshold) == (3, 3)
    assert (configuration.length, configuration.quantum) == (6, cohort.config.quantum)
    assert configuration.deadline == DEADLINE and len(descriptor.nonce) == 16
    assert cohort.server.stage is Stage.SHARING and cohort.server.refused == {}
    assert cohort.server.total.tolist() == [0] * 6 and cohort.server.total.dtype == np.dtype("<u4")


def test_two_sessions_over_the_same_bundles_differ():
    cohort = Cohort(3)
    first, second = cohort.open(), cohort.open()
    assert first != second


def test_the_roster_is_ordered_by_the_bytes_of_the_names():
    cohort = Cohort(4)
    cohort.names = ["b", "\U00010000", "a", "\ue000"]
    messages = cohort.open()
    assert list(messages) == ["a", "b", "\ue000", "\U00010000"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: setattr(b, "suite", "v0"), "the bundle is for 'v0', not 'cohort-secagg-v1'"),
        (lambda b: setattr(b, "expires", NOW - 1), "the bundle expired at 999.0, now is 1000.0"),
        (
            lambda b: setattr(b, "mask_key", bytes(32)),
            "an X25519 public key is of small order or not 32 bytes long",
        ),
        (
            lambda b: setattr(b, "channel_key", b"\1" + bytes(31)),
            "an X25519 public key is of small order or not 32 bytes long",
        ),
        (lambda b: setattr(b, "mask_key", b.channel_key), "a name or key stands twice in the cohort"),
    ],
)
def test_a_device_with_a_bad_bundle_is_left_out_and_named(change, message):
    cohort = Cohort(4)
    cohort.check_in()
    cohort.bundles[BAD] = rebundle(cohort, BAD, change)
    messages = cohort.open()
    assert sorted(messages) == ["device-01", "device-02", "device-04"]
    assert {name: str(error) for name, error in cohort.server.refused.items()} == {BAD: f"{BAD}: {message}"}
    cohort.messages = messages
    finishes(cohort, "share")


def test_a_bundle_under_anothers_name_is_left_out():
    cohort = Cohort(4)
    cohort.check_in()
    cohort.bundles[BAD] = cohort.bundles[GOOD]
    cohort.open()
    assert str(cohort.server.refused[BAD]) == "device-03: the bundle is that of device-02"
    cohort.bundles[BAD] = b"\xff"
    cohort.open()
    assert str(cohort.server.refused[BAD]) == "device-03: SignedBundle: the 1 bytes are not such a message"
    cohort.bundles[BAD] = bytes(8193)
    cohort.open()
    assert str(cohort.server.refused[BAD]) == "device-03: SignedBundle: 8193 bytes, more than the limit of 8192"


def test_too_few_or_too_many_devices_make_no_session():
    cohort = Cohort(4, n_min=4)
    cohort.check_in()
    cohort.bundles[BAD] = cohort.bundles[GOOD]
    with pytest.raises(SessionAborted) as caught:
        cohort.open()
    reason = "3 devices, expected 4 to 4 (device-03: the bundle is that of device-02)"
    assert str(caught.value) == f"the session aborts at roster: {reason}"
    assert (caught.value.stage, caught.value.reason, caught.value.exclude) == ("roster", reason, {BAD})
    with pytest.raises(SessionAborted) as caught:
        Cohort(4, cohort_max=3).open()
    assert caught.value.reason == "4 devices, expected 2 to 3 (no bundle was refused)"
    assert caught.value.exclude == frozenset()


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
    limit = {"share": 131072, "mask": 16384, "agree": 4096, "unmask": 32768}[stage]
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


def test_the_stages_come_in_their_order():
    create = [
        ("share keys", secagg.create_share_messages),
        ("masked input", secagg.create_consistency_messages),
        ("consistency", secagg.create_unmask_messages),
        ("unmasking", secagg.recover),
    ]
    for stage, name in STAGES.items():
        cohort = reaches(stage)
        for wanted, call in create:
            if wanted != name:
                with raises(StageError, f"the session is at {name}, not at {wanted}"):
                    call(cohort.server)
        finishes(cohort, stage)


def test_nothing_is_left_after_the_sum_or_an_abort():
    cohort = reaches("share")
    outcome = finishes(cohort, "share")
    server = cohort.server
    assert server.stage is Stage.CLOSED and outcome.total.size == 6
    assert not (server.answers or server.dealings or server.endorsements or server.reveals or server.total.size)
    with raises(StageError, "the session is at closed, not at unmasking"):
        secagg.recover(server)
    cohort = reaches("mask")
    with pytest.raises(SessionAborted):
        secagg.create_consistency_messages(cohort.server)
    server = cohort.server
    assert not (server.answers or server.dealings or server.total.size) and server.stage is Stage.CLOSED
    with raises(StageError, "a reply to masked input comes while the session is at closed", blames=GOOD):
        secagg.handle_masked(server, GOOD, b"", None)


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


def test_recovery_needs_t_devices_that_showed_good_shares():
    cohort = reaches("unmask")
    with raises(MessageError, "seed shares must be those of [1, 2, 3, 4]", blames=BAD):
        secagg.handle_unmask_reply(cohort.server, BAD, unmask_reply(cohort, lambda m: m.seeds.__delitem__(0)))
    with pytest.raises(SessionAborted) as caught:
        cohort.unmask({name: message for name, message in cohort.messages.items() if name != BAD})
    assert str(caught.value) == "the session aborts at unmasking: 3 of 5 devices answered, it takes 4"
    assert caught.value.exclude == frozenset()


def test_a_sum_that_cannot_be_is_not_let_out():
    # A device that cheats with the count, or with values beyond 2Q, spoils the sum: it must not be let out.
    for index, amount, reason in (
        (-1, 1, "the tripwire counts 5 devices where 4 delivered: the sum is worthless"),
        (0, 2**32 - 2, "a sum of 4294967295 exceeds what 4 devices can reach (3435973832)"),
    ):
        cohort = Cohort.open_fresh(5, one_hot=True)
        messages = cohort.mask(cohort.share(cohort.messages), without=["device-05"])
        cohort.server.total[[index]] += np.uint32(amount)
        messages = cohort.agree(messages)
        with pytest.raises(SessionAborted) as caught:
            cohort.unmask(messages)
        assert (caught.value.reason, caught.value.stage) == (reason, "unmasking")
        assert cohort.server.total.size == 0


def test_the_record_binds_session_and_sum_and_only_the_round_key_signs_it():
    cohort = Cohort(3)
    outcome = cohort.run()
    record = secagg.read_record(outcome.record, private_key("round").public_key())
    assert record.suite == "cohort-secagg-v1" and record.survivors == 3
    assert (record.run, record.round, record.attempt) == ("fleet", 7, 1)
    assert record.session_id == cohort.server.session_id == secagg.wire.sha256(cohort.server.session.descriptor_bytes)
    assert record.result_blake2b == secagg.wire.vector_hash(outcome.total)
    assert len(record.result_blake2b) == 32
    with raises(MessageError, "the signature (record) does not verify"):
        secagg.read_record(outcome.record, private_key("other").public_key())
    with raises(MessageError, "Signed: 4097 bytes, more than the limit of 4096"):
        secagg.read_record(bytes(4097), private_key("round").public_key())


def test_the_server_holds_one_vector_however_many_deliver():
    cohort = reaches("mask", n=8)
    cohort.mask(cohort.messages)
    server = cohort.server
    arrays = [value for value in (getattr(server, name) for name in server.__slots__) if isinstance(value, np.ndarray)]
    assert len(arrays) == 1 and arrays[0] is server.total
    vectors = {data for _, kind, data in cohort.view if kind == "vector"}
    assert len(vectors) == 8 and not any(vector in reply for vector in vectors for reply in server.answers.values())


def test_a_device_created_elsewhere_with_the_same_name_is_a_stranger():
    cohort = reaches("share")
    state, bundle = secagg.create_bundle(
        private_key(BAD), BAD, certificate(BAD), now=NOW, expires=EXPIRES, entropy=cohort.random.randbytes
    )
    assert bundle != cohort.bundles[BAD]
    with pytest.raises(secagg.RefusedError):
        secagg.handle_roster(state, cohort.messages[BAD], cohort.policy())
