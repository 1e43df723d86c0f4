"""The stand-in without privacy: same rules, same answers to messages out of turn, and it says what it is."""

import numpy as np
import pytest
from secagg_cohort import DEADLINE, NOW, Cohort, private_key, raises

from fedge import secagg
from fedge.secagg import MessageError, Phase, RefusedError, SessionAborted, StageError, plain
from protos.fedge.secagg.v1 import secagg_pb2 as pb

ME = "device-02"


def cohort_of(n=5, **config):
    return Cohort.open_fresh(n, protocol=plain, **config)


def step(cohort, name, members, **changes) -> bytes:
    values = {"session_id": cohort.server.session_id, "step": name, "members": members, **changes}
    return pb.PlainStep(**values).SerializeToString()


def test_it_has_the_functions_of_the_protocol_and_says_that_it_is_not_private():
    functions = [
        name for name in secagg.__all__ if name.startswith(("create_", "handle_")) or name in ("recover", "erase", "expire")
    ]
    assert set(functions) <= set(plain.__all__) and len(functions) == 16
    assert "NOT PRIVATE" in plain.__doc__ and "NOT PRIVATE" in plain.handle_shares.__doc__
    for name in plain.__all__:
        assert hasattr(plain, name)


def test_the_encoded_vector_travels_as_it_is():
    cohort = cohort_of()
    delivery = cohort.share(cohort.messages)
    before = cohort.vectors[ME].copy()
    _, vector = cohort.masked(ME, delivery[ME])
    np.testing.assert_array_equal(vector, before)
    assert cohort.states[ME].spent and cohort.states[ME].phase is Phase.MASKED
    assert cohort.states[ME].sharers == (1, 2, 3, 4, 5)
    vector[0] += 1
    np.testing.assert_array_equal(cohort.vectors[ME], before)


def test_a_plain_descriptor_is_no_descriptor_of_the_protocol_and_the_other_way_round():
    open_, private = cohort_of(), Cohort.open_fresh(5)
    with raises(RefusedError, "the descriptor's suite is 'cohort-secagg-v2', this device's is 'plain-v1'"):
        plain.handle_roster(open_.states[ME], private.messages[ME], open_.policy())
    with raises(RefusedError, "the descriptor's suite is 'plain-v1', this device's is 'cohort-secagg-v2'"):
        secagg.handle_roster(private.states[ME], open_.messages[ME], private.policy())


def test_the_record_says_that_nothing_was_masked():
    cohort = Cohort(3, protocol=plain)
    outcome = cohort.run()
    record = secagg.read_record(outcome.record, private_key("round").public_key())
    assert record.result_blake2b == secagg.wire.vector_hash(outcome.total)
    assert not cohort.states[ME].vector
    assert (record.suite, record.run, record.survivors) == ("plain-v1", "fleet", 3)
    assert not cohort.server.total.size and cohort.server.stage is secagg.Stage.CLOSED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device_id": "device-01"}, "the bundle is that of 'device-01' for 'plain-v1'"),
        ({"suite": "cohort-secagg-v2"}, "the bundle is that of 'device-03' for 'cohort-secagg-v2'"),
        ({"nonce": b"1"}, "the nonce has 1 bytes, expected 32"),
        ({"device_id": ""}, "the device's name has 0 bytes, expected 1 to 128"),
    ],
)
def test_a_bad_bundle_is_left_out_and_named(change, message):
    cohort = Cohort(4, protocol=plain)
    cohort.check_in()
    bundle = pb.PlainBundle.FromString(cohort.bundles["device-03"])
    for name, value in change.items():
        setattr(bundle, name, value)
    cohort.bundles["device-03"] = bundle.SerializeToString()
    messages = cohort.open()
    assert list(messages) == ["device-01", "device-02", "device-04"]
    assert {name: str(error) for name, error in cohort.server.refused.items()} == {"device-03": f"device-03: {message}"}


def test_too_few_devices_make_no_session():
    with pytest.raises(SessionAborted) as caught:
        Cohort(4, protocol=plain, n_min=3, cohort_max=3).open()
    assert caught.value.reason == "4 devices, expected 3 to 3 (no bundle was refused)"


def test_a_bundle_needs_a_name():
    with raises(MessageError, "the device's name has 0 bytes, expected 1 to 128"):
        plain.create_bundle(private_key(ME), "", b"", now=NOW, expires=DEADLINE, entropy=bytes)


def test_names_are_ordered_by_their_bytes():
    cohort = Cohort(4, protocol=plain)
    cohort.names = ["b", "\U00010000", "a", "\ue000"]
    assert list(cohort.open()) == ["a", "b", "\ue000", "\U00010000"]


STEPS = {
    "handle_shares": ("masked", "shared"),
    "handle_consistency": ("consistency", "masked"),
    "handle_unmask": ("unmask", "agreed"),
}


def device_before(handler):
    cohort = cohort_of(5, n_min=3)
    messages = cohort.share(cohort.messages)
    if handler != "handle_shares":
        messages = cohort.mask(messages, without=["device-05"])
    if handler == "handle_unmask":
        messages = cohort.agree(messages)
    extra = (cohort.vectors[ME],) if handler == "handle_shares" else ()
    return cohort, messages[ME], lambda message: getattr(plain, handler)(cohort.states[ME], message, *extra)


@pytest.mark.parametrize("handler", STEPS)
def test_a_message_for_another_session_or_step_is_refused(handler):
    cohort, _, call = device_before(handler)
    name, _ = STEPS[handler]
    wrong = "shares" if name != "shares" else "masked"
    with raises(MessageError, f"the message belongs to another session, or to {wrong!r} instead of {name!r}"):
        call(step(cohort, wrong, [1, 2, 3, 4]))
    with raises(MessageError, f"the message belongs to another session, or to {name!r} instead of {name!r}"):
        call(step(cohort, name, [1, 2, 3, 4], session_id=bytes(32)))
    with raises(MessageError, "the set of members is not an ascending set of positions in 1..5: (2, 1)"):
        call(step(cohort, name, [2, 1]))
    with raises(RefusedError, "(1, 3, 4) leave this device out"):
        call(step(cohort, name, [1, 3, 4]))
    with raises(MessageError, "PlainStep: 2049 bytes, more than the limit of 2048"):
        call(bytes(2049))


@pytest.mark.parametrize("handler", ["handle_shares", "handle_consistency"])
def test_fewer_than_n_min_are_refused(handler):
    cohort, _, call = device_before(handler)
    with raises(RefusedError, "2 devices are fewer than n_min, which is 3"):
        call(step(cohort, STEPS[handler][0], [1, 2]))
    state, *_ = call(step(cohort, STEPS[handler][0], [1, 2, 3]))
    assert (state.survivors or state.sharers) == (1, 2, 3)


def test_survivors_are_among_the_sharers_and_t_of_them_agree():
    cohort = cohort_of()
    messages = cohort.mask(cohort.share(cohort.messages, without=["device-05"]))
    with raises(RefusedError, "the survivors (1, 2, 5) are not all among (1, 2, 3, 4)"):
        plain.handle_consistency(cohort.states[ME], step(cohort, "consistency", [1, 2, 5]))
    cohort.agree(messages)
    for agreed in ((1, 2, 3), (1, 2, 3, 5)):
        with raises(RefusedError, f"{agreed} are not 4 of the survivors (1, 2, 3, 4)"):
            plain.handle_unmask(cohort.states[ME], step(cohort, "unmask", agreed))


@pytest.mark.parametrize("handler", STEPS)
def test_the_same_message_gets_the_stored_answer_and_another_is_refused(handler):
    cohort, message, call = device_before(handler)
    first = call(message)
    cohort.keep(ME, first[0])
    cohort.vectors[ME] = cohort.vectors[ME] + 1
    again = (
        call(message) if handler != "handle_shares" else plain.handle_shares(cohort.states[ME], message, cohort.vectors[ME])
    )
    assert again[0] == first[0] and again[1] == first[1]
    if handler == "handle_shares":
        np.testing.assert_array_equal(again[2], first[2])
    following = cohort.states[ME].phase.name.lower()
    with raises(StageError, f"{following} already, and the request differs from the one that was answered"):
        call(message + b"\0")


def test_a_roster_is_answered_once():
    cohort = cohort_of()
    reply = cohort.roster_reply(ME, cohort.messages[ME])
    assert plain.handle_roster(cohort.states[ME], cohort.messages[ME], cohort.policy()) == (cohort.states[ME], reply)
    with raises(StageError, "shared already, and the request differs from the one that was answered"):
        plain.handle_roster(cohort.states[ME], b"", cohort.policy())
    with raises(RefusedError, "(round, attempt) (7, 1) is not above the last accepted (7, 1)"):
        plain.handle_roster(cohort.states["device-01"], cohort.messages["device-01"], cohort.policy(last_accepted=(7, 1)))


def test_messages_out_of_turn_are_refused_by_the_device():
    cohort = cohort_of()
    calls = {
        "bundled": lambda state: plain.handle_roster(state, b"", cohort.policy()),
        "shared": lambda state: plain.handle_shares(state, b"", cohort.vectors[ME]),
        "masked": lambda state: plain.handle_consistency(state, b""),
        "agreed": lambda state: plain.handle_unmask(state, b""),
    }
    erased = plain.erase(cohort.states[ME])
    for wanted, call in calls.items():
        with raises(StageError, f"the device is erased, not {wanted} as this message needs it"):
            call(erased)


SERVER_STAGES = {"share": "shares", "mask": "masked", "agree": "consistency", "unmask": "unmask"}
HANDLERS = {
    "share": lambda cohort, name, reply: plain.handle_roster_reply(cohort.server, name, reply),
    "mask": lambda cohort, name, reply: plain.handle_masked(cohort.server, name, reply, cohort.vectors[name]),
    "agree": lambda cohort, name, reply: plain.handle_consistency_reply(cohort.server, name, reply),
    "unmask": lambda cohort, name, reply: plain.handle_unmask_reply(cohort.server, name, reply),
}
NAMES = {"share": "share keys", "mask": "masked input", "agree": "consistency", "unmask": "unmasking"}


@pytest.mark.parametrize("stage", SERVER_STAGES)
def test_the_server_takes_an_acknowledgement_of_this_step_by_this_device_once(stage):
    cohort = cohort_of()
    messages = cohort.messages
    for earlier in SERVER_STAGES:
        if earlier == stage:
            break
        messages = getattr(cohort, earlier)(messages, without=["device-05"] if earlier == "mask" else ())
    handle, name = HANDLERS[stage], SERVER_STAGES[stage]
    bad = f"this does not acknowledge {name!r} for {ME} in this session"
    for reply in (
        step(cohort, "other", [2]),
        step(cohort, name, [2], session_id=b""),
        step(cohort, name, [1]),
        step(cohort, name, [1, 2]),
        b"",
    ):
        with raises(MessageError, bad, blames=ME):
            handle(cohort, ME, reply)
    handle(cohort, ME, step(cohort, name, [2]))
    handle(cohort, ME, step(cohort, name, [2]))
    with raises(StageError, f"a second reply to {NAMES[stage]} differs from the first", blames=ME):
        handle(cohort, ME, step(cohort, name, [2]) + b"\0")
    later = list(SERVER_STAGES)[(list(SERVER_STAGES).index(stage) + 1) % 4]
    with raises(StageError, f"a reply to {NAMES[later]} comes while the session is at {NAMES[stage]}", blames=ME):
        HANDLERS[later](cohort, ME, b"")
    if stage in ("agree", "unmask"):
        with raises(MessageError, f"the device takes no part in {NAMES[stage]}", blames="device-05"):
            handle(cohort, "device-05", step(cohort, name, [5]))
    if stage == "mask":
        np.testing.assert_array_equal(cohort.server.total, cohort.vectors[ME])
    outcome = None
    steps = list(SERVER_STAGES)
    for following in steps[steps.index(stage) :]:
        messages = outcome = getattr(cohort, following)(messages)
    np.testing.assert_array_equal(outcome.total, cohort.sum_of(outcome.survivors))


def test_the_stages_come_in_their_order():
    cohort = cohort_of()
    with raises(StageError, "the session is at share keys, not at masked input"):
        plain.create_consistency_messages(cohort.server)
    with raises(StageError, "the session is at share keys, not at consistency"):
        plain.create_unmask_messages(cohort.server)
    with raises(StageError, "the session is at share keys, not at unmasking"):
        plain.recover(cohort.server)
    cohort.share(cohort.messages)
    with raises(StageError, "the session is at masked input, not at share keys"):
        plain.create_share_messages(cohort.server)


def test_a_vector_must_be_whole_and_its_sum_possible():
    cohort = cohort_of(4)
    delivery = cohort.share(cohort.messages)
    reply, vector = cohort.masked(ME, delivery[ME])
    with raises(MessageError, "the vector is missing", blames=ME):
        plain.handle_masked(cohort.server, ME, reply, None)
    for name, message in delivery.items():
        reply, vector = cohort.masked(name, message)
        plain.handle_masked(cohort.server, name, reply, vector.tobytes())
    cohort.server.total[-1] += np.uint32(1)
    messages = cohort.agree(plain.create_consistency_messages(cohort.server))
    with pytest.raises(SessionAborted) as caught:
        cohort.unmask(messages)
    assert caught.value.reason == "the tripwire counts 5 devices where 4 delivered: the sum is worthless"
    assert caught.value.stage == "unmasking" and not cohort.server.total.size


def test_a_device_gives_a_session_up_as_in_the_protocol():
    cohort = cohort_of()
    cohort.mask(cohort.share(cohort.messages))
    state = plain.expire(cohort.states[ME], now=DEADLINE)
    assert state.phase is Phase.ERASED and state.spent and state.vector == b""
