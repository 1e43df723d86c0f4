"""A device's state: what is left in it after each step, and what becomes of it when it is stored, printed or given up."""

import pytest
from secagg_cohort import DEADLINE, Cohort, at_agreeing, at_masking, at_unmasking, private_key, raises

from fedge import secagg
from fedge.errors import InputError
from fedge.secagg import DeviceState, Phase, StageError, plain
from protos.fedge.secagg.v1 import state_pb2 as state_pb

ME, PEER = "device-02", "device-03"


def secrets_in(state: DeviceState, needles) -> set[str]:
    data = state.to_bytes()
    return {label for label, needle in needles.items() if needle in data}


def test_secrets_go_when_they_are_no_longer_needed():
    cohort = Cohort.open_fresh(4)
    own = cohort.states[ME].secrets
    needles = {"mask": own.mask_key, "channel": own.channel_key, "seed": own.seed, "dealing": own.dealing_seed}
    assert secrets_in(cohort.states[ME], needles) == {"mask", "channel", "seed", "dealing"}
    delivery = cohort.share(cohort.messages)
    assert secrets_in(cohort.states[ME], needles) == {"mask", "channel", "seed", "dealing"}
    request = cohort.mask(delivery)
    state = cohort.states[ME]
    assert secrets_in(state, needles) == set() and state.secrets is None and state.spent
    assert [share.dealer for share in state.held] == [1, 2, 3, 4] and state.vector
    needles = {f"{share.dealer}{kind}": getattr(share, f"{kind}_share") for share in state.held for kind in ("seed", "key")}
    final = cohort.agree(request)
    state = cohort.states[ME]
    assert not state.vector and len(secrets_in(state, needles)) == 8
    cohort.unmask(final)
    state = cohort.states[ME]
    assert secrets_in(state, needles) == {"1seed", "2seed", "3seed", "4seed"}, "the sealed reply, nothing else"
    assert state.held == () and state.phase is Phase.REVEALED


def test_a_device_that_dropped_out_erases_at_the_deadline():
    cohort = at_agreeing()
    state = cohort.states[ME]
    assert secagg.expire(state, now=DEADLINE - 0.5) is state
    erased = secagg.expire(state, now=DEADLINE)
    assert erased.phase is Phase.ERASED and erased.spent and erased.accepted == (7, 1)
    assert (erased.secrets, erased.held, erased.vector, erased.reply, erased.request_sha256) == (None, (), b"", b"", b"")
    with raises(StageError, "the device is erased, not masked as this message needs it"):
        secagg.handle_consistency(erased, cohort.request[ME])
    cohort.keep(ME, erased)


def test_a_device_without_a_session_does_not_expire():
    cohort = Cohort(2)
    cohort.check_in()
    state = cohort.states[ME]
    assert secagg.expire(state, now=DEADLINE) is state
    assert secagg.erase(state).secrets is None and not secagg.erase(state).spent


PHASES = ["bundled", "shared", "masked", "agreed", "revealed"]


def test_a_message_out_of_turn_is_refused_in_every_phase():
    cohort = at_unmasking()
    cohort.unmask_reply(ME, cohort.final[ME])
    revealed = cohort.states[ME]
    stages = [Cohort.open_fresh(5), at_masking(), at_agreeing(), at_unmasking()]
    states = [*(stage.states[ME] for stage in stages), revealed]
    calls = [
        ("bundled", lambda state: secagg.handle_roster(state, cohort.messages[ME] + b"\0", cohort.policy())),
        ("shared", lambda state: secagg.handle_shares(state, cohort.delivery[ME] + b"\0", cohort.vectors[ME])),
        ("masked", lambda state: secagg.handle_consistency(state, cohort.request[ME] + b"\0")),
        ("agreed", lambda state: secagg.handle_unmask(state, cohort.final[ME] + b"\0")),
    ]
    for index, state in enumerate(states):
        assert state.phase.name.lower() == PHASES[index]
        for wanted, call in calls:
            if wanted == PHASES[index]:
                continue
            following = PHASES[PHASES.index(wanted) + 1]
            message = (
                f"{following} already, and the request differs from the one that was answered"
                if following == PHASES[index]
                else f"the device is {PHASES[index]}, not {wanted} as this message needs it"
            )
            with raises(StageError, message):
                call(state)


def test_the_state_shows_no_secrets_when_printed():
    cohort = at_masking()
    text = repr(cohort.states[ME])
    own = cohort.states[ME].secrets
    for secret in (own.mask_key, own.channel_key, own.seed, own.dealing_seed, cohort.states[ME].held[0].seed_share):
        assert repr(secret)[2:-1] not in text
    assert "PrivateKey" not in text and "secrets=OwnSecrets(" not in text and "HeldShare(" not in text
    assert " reply=" not in text and " vector=" not in text


def test_a_stored_state_that_is_damaged_or_anothers_is_refused():
    cohort = Cohort.open_fresh(3)
    fresh = cohort.states[ME].to_bytes()
    cohort.roster_reply(ME, cohort.messages[ME])
    data = cohort.states[ME].to_bytes()

    def spoiled(change) -> bytes:
        message = state_pb.DeviceState.FromString(data)
        change(message)
        return message.SerializeToString()

    for damaged in (
        b"",
        fresh[:-1],
        b"\x08\x63" + fresh[2:],
        spoiled(lambda message: setattr(message, "descriptor", b"\xff")),
        spoiled(lambda message: setattr(message, "descriptor", b"\x0a\x00")),
        spoiled(lambda message: message.peers.__delitem__(0)),
        spoiled(lambda message: setattr(message.peers[0], "identity_key", b"short")),
        spoiled(lambda message: setattr(message.secrets, "seed", bytes(31))),
        spoiled(lambda message: setattr(message.secrets, "mask_key", b"")),
        spoiled(lambda message: message.ClearField("secrets")),
        spoiled(lambda message: message.ClearField("descriptor")),
        spoiled(lambda message: setattr(message, "device_id", "stranger")),
        spoiled(lambda message: setattr(message, "phase", state_pb.PHASE_MASKED)),
        spoiled(lambda message: setattr(message.held[0], "dealer", 9)),
        spoiled(lambda message: setattr(message.held[0], "key_share", b"short")),
        spoiled(lambda message: message.sharers.extend([2, 1])),
        spoiled(lambda message: message.survivors.append(4)),
    ):
        with pytest.raises(InputError) as caught:
            DeviceState.from_bytes(damaged, identity_key=private_key(ME))
        assert str(caught.value) == "the stored session is damaged: discard it and check in again"
    for stored in (fresh, data):
        with pytest.raises(InputError) as caught:
            DeviceState.from_bytes(stored, identity_key=private_key(PEER))
        assert str(caught.value) == "the stored session of 'device-02' belongs to another identity key"


def test_a_session_without_masks_is_not_continued_with_them():
    bare, shared = Cohort(3, protocol=plain), Cohort.open_fresh(3, protocol=plain)
    bare.check_in()
    with raises(StageError, "the device checked in without keys, to a session in which nothing is private"):
        secagg.handle_roster(bare.states[ME], b"", bare.policy())
    shared.share(shared.messages)
    with raises(StageError, "the device shared no keys: it is in a session in which nothing is private"):
        secagg.handle_shares(shared.states[ME], b"", shared.vectors[ME])
