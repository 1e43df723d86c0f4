"""The session on the server: how it is opened, the order of its stages, what it lets out and what is left of it."""

import numpy as np
import pytest
from secagg_cohort import DEADLINE, EXPIRES, NOW, Cohort, certificate, finishes, private_key, raises, reaches, rebundle

from fedge import secagg
from fedge.secagg import MessageError, SessionAborted, Stage, StageError, keys
from protos.fedge.secagg.v1 import secagg_pb2 as pb

BAD, GOOD = "device-03", "device-02"
STAGES = {"share": "share keys", "mask": "masked input", "agree": "consistency", "unmask": "unmasking"}


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
        (lambda b: setattr(b, "suite", "v0"), "the bundle is for 'v0', not 'cohort-secagg-v2'"),
        (lambda b: setattr(b, "expires", NOW - 1), "the bundle expired at 999.0, now is 1000.0"),
        (
            lambda b: setattr(b, "mask_key", bytes(32)),
            "the mask key is a point of small order",
        ),
        (
            lambda b: setattr(b, "channel_key", b"\1" + bytes(31)),
            "the channel key is a point of small order",
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


def test_recovery_needs_t_devices_that_showed_good_shares():
    cohort = reaches("unmask")
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
    assert record.suite == "cohort-secagg-v2" and record.survivors == 3
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
