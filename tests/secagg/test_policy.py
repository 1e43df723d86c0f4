"""Step 1, on the device: every condition under which it takes no part, each by an altered descriptor, roster or policy.

A refusal leaves the state as it was: the bundle is not consumed.
"""

import pytest
from secagg_cohort import (
    DEADLINE,
    EXPIRES,
    NOW,
    Cohort,
    certificate,
    private_key,
    raises,
    rebundle,
    verify_certificate,
)

from fedge import secagg
from fedge.errors import VerificationError
from fedge.secagg import MessageError, RefusedError, StageError, UnknownRoundKey, keys
from fedge.secagg.wire import sha256
from protos.fedge.secagg.v1 import secagg_pb2 as pb

FIRST = "device-01"


def altered(message: bytes, change, *, signer="round", domain="descriptor", bundles=None) -> bytes:
    """The roster message with its descriptor changed and signed again."""
    roster = pb.Roster.FromString(message)
    descriptor = pb.Descriptor.FromString(roster.descriptor)
    change(descriptor)
    roster.descriptor = descriptor.SerializeToString()
    roster.signature = keys.sign(private_key(signer), domain, roster.descriptor)
    if bundles is not None:
        del roster.bundles[:]
        roster.bundles.extend(bundles)
    return roster.SerializeToString()


def setting(path: str, value):
    """Sets a field of the descriptor, or of a message in it where the path is dotted."""

    def change(descriptor):
        part, _, name = path.rpartition(".")
        setattr(getattr(descriptor, part) if part else descriptor, name, value)

    return change


@pytest.fixture
def cohort():
    made = Cohort(4)
    made.messages = made.open()
    return made


def refuses(cohort, kind, message, *, roster=None, blames=None, name=FIRST, **policy):
    before = cohort.states[name]
    with raises(kind, message, blames=blames):
        secagg.handle_roster(before, roster or cohort.messages[name], cohort.policy(**policy))
    assert cohort.states[name] is before
    cohort.roster_reply(name, cohort.messages[name])


def test_the_cohort_as_it_stands_is_accepted(cohort):
    for name, message in cohort.messages.items():
        cohort.roster_reply(name, message)
        assert cohort.states[name].phase is secagg.Phase.SHARED
        assert cohort.states[name].accepted == (7, 1)
        assert cohort.states[name].deadline == DEADLINE


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("suite", "plain-v1", "the descriptor's suite is 'plain-v1', this device's is 'cohort-secagg-v2'"),
        ("run", "other", "the descriptor's run is 'other', this device's is 'fleet'"),
        ("task.purpose", pb.PURPOSE_USAGE, "the descriptor's task.purpose is 'usage', this device's is 'update'"),
        ("task.period", 6, "the descriptor's task.period is 6, this device's is 5"),
        ("task.release_id", "9" * 64, f"the descriptor's task.release_id is '{'9' * 64}', this device's is '{'1' * 64}'"),
        (
            "task.weights_sha256",
            "9" * 64,
            f"the descriptor's task.weights_sha256 is '{'9' * 64}', this device's is '{'2' * 64}'",
        ),
        (
            "task.structure_sha256",
            "9" * 64,
            f"the descriptor's task.structure_sha256 is '{'9' * 64}', this device's is '{'3' * 64}'",
        ),
        ("configuration.scale", 0.5, "the descriptor's scale is 0.5, its clip norm needs 1.0"),
        ("configuration.clip_norm", 2.0, "the descriptor's clip norm is 2.0, above this device's 1.0"),
        ("configuration.weight_cap", 11, "the descriptor's weight cap is 11, above this device's 10"),
        ("configuration.deadline", NOW, "the deadline 1000.0 is not within 86400.0 s from 1000.0"),
        ("configuration.deadline", NOW + 86401, "the deadline 87401.0 is not within 86400.0 s from 1000.0"),
    ],
)
def test_an_altered_descriptor_is_refused_even_with_a_good_signature(cohort, path, value, message):
    refuses(cohort, RefusedError, message, roster=altered(cohort.messages[FIRST], setting(path, value)))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("configuration.length", 7, "length 7 and quantum 536870911 do not follow, expected 6 and 536870911"),
        ("configuration.quantum", 1, "length 6 and quantum 1 do not follow, expected 6 and 536870911"),
        ("configuration.threshold", 2, "thresholds for 4 devices must be 3"),
        ("configuration.consistency_threshold", 4, "thresholds for 4 devices must be 3"),
        ("configuration.bits", 24, "the configuration cannot be: bits is 24: choose 16 or 32"),
        ("run", "", "the run's name has 0 bytes, expected 1 to 128"),
        ("run", "é" * 65, "the run's name has 130 bytes, expected 1 to 128"),
        ("nonce", b"", "the descriptor's nonce has 0 bytes, expected 16"),
        ("task.release_id", "A" * 64, f"'{'A' * 64}' is not a hash of 64 lower-case hex digits"),
        ("task.weights_sha256", "1" * 63, f"'{'1' * 63}' is not a hash of 64 lower-case hex digits"),
        ("task.structure_sha256", "1" * 65, f"'{'1' * 65}' is not a hash of 64 lower-case hex digits"),
        ("task.structure_sha256", "1" * 64 + "\n", f"'{'1' * 64}\\n' is not a hash of 64 lower-case hex digits"),
        (
            "task.purpose",
            0,
            "a session of purpose 0 is unknown: expected one of update, counts, health, usage",
        ),
        ("task.period", 1 << 48, "period 281474976710656 lies beyond every calendar"),
        (
            "task.canary_release_id",
            "4" * 64,
            f"a session of purpose update cannot name the canary release '{'4' * 64}'",
        ),
        (
            "task.probe_cap",
            1,
            "a session of purpose update cannot have the probe cap 1 and the epsilon 0.0",
        ),
    ],
)
def test_a_descriptor_that_contradicts_the_protocol_is_no_message(cohort, path, value, message):
    refuses(cohort, MessageError, message, roster=altered(cohort.messages[FIRST], setting(path, value)))


def test_the_roster_must_have_a_size_that_the_configuration_allows(cohort):
    def larger(descriptor):
        descriptor.configuration.cohort_max = 3
        descriptor.configuration.quantum = ((1 << 32) - 1) // 6

    def smaller(descriptor):
        del descriptor.roster[3]
        descriptor.configuration.n_min = 4

    refuses(
        cohort,
        MessageError,
        "4 devices stand in the roster, expected 2 to 3",
        roster=altered(cohort.messages[FIRST], larger),
    )
    refuses(
        Cohort.open_fresh(4),
        MessageError,
        "3 devices stand in the roster, expected 4 to 4",
        roster=altered(cohort.messages[FIRST], smaller),
    )


def test_a_roster_out_of_order_or_with_a_name_twice_is_no_message(cohort):
    def swapped(descriptor):
        first, second = descriptor.roster[1].device_id, descriptor.roster[2].device_id
        descriptor.roster[1].device_id, descriptor.roster[2].device_id = second, first

    def doubled(descriptor):
        descriptor.roster[1].device_id = descriptor.roster[2].device_id

    message = "the roster is not ascending by name without repetition"
    refuses(cohort, MessageError, message, roster=altered(cohort.messages[FIRST], swapped))
    refuses(Cohort.open_fresh(4), MessageError, message, roster=altered(cohort.messages[FIRST], doubled))


def test_entries_of_the_roster_have_a_name_and_a_hash(cohort):
    def nameless(descriptor):
        descriptor.roster[0].device_id = ""

    def short(descriptor):
        descriptor.roster[0].bundle_sha256 = b"1234"

    roster = altered(cohort.messages[FIRST], nameless)
    refuses(cohort, MessageError, "a device's name has 0 bytes, expected 1 to 128", roster=roster)
    roster = altered(cohort.messages[FIRST], short)
    refuses(Cohort.open_fresh(4), MessageError, "a bundle's hash has 4 bytes, expected 32", roster=roster)


def test_only_the_pinned_round_key_opens_a_session(cohort):
    message = "the signature (descriptor) does not verify"
    unchanged = lambda descriptor: None  # noqa: E731
    refuses(cohort, UnknownRoundKey, message, roster=altered(cohort.messages[FIRST], unchanged, signer="other"))
    other = Cohort.open_fresh(4)
    refuses(other, UnknownRoundKey, message, roster=altered(other.messages[FIRST], unchanged, domain="record"))


@pytest.mark.parametrize("last", [(7, 1), (7, 2), (8, 0)])
def test_a_round_and_attempt_at_or_below_the_last_is_refused(cohort, last):
    refuses(cohort, RefusedError, f"(round, attempt) (7, 1) is not above the last accepted {last}", last_accepted=last)


@pytest.mark.parametrize("last", [None, (7, 0), (6, 9)])
def test_a_round_and_attempt_above_the_last_is_accepted(cohort, last):
    cohort.roster_reply(FIRST, cohort.messages[FIRST], last_accepted=last)


def test_limits_of_the_device(cohort):
    refuses(cohort, RefusedError, "n_min is 2: this device takes part from 3 on", n_min=3)
    for changes, message in (
        ({"bits": (16,)}, "32 bits: this device accepts [16]"),
        ({"reals": 4}, "the descriptor's number of reals is 3, this device's is 4"),
        ({"integers": 1}, "the descriptor's number of integers is 2, this device's is 1"),
        ({"now": DEADLINE}, "the deadline 2000.0 is not within 86400.0 s from 2000.0"),
        ({"max_session_s": 999.0}, "the deadline 2000.0 is not within 999.0 s from 1000.0"),
        ({"revoked": {"device-03", "device-02"}}, "the roster holds revoked devices: device-02, device-03"),
        ({"revoked": [FIRST]}, "the roster holds revoked devices: device-01"),
        (
            {"revocations_issued": NOW - 11, "max_revocation_age_s": 10.0},
            "the revocation list of 989.0 is over 10.0 s old",
        ),
    ):
        refuses(Cohort.open_fresh(4), RefusedError, message, **changes)


def test_the_limits_themselves_are_accepted():
    for changes in (
        {"max_session_s": DEADLINE - NOW},
        {"now": DEADLINE - 1},
        {"revoked": {"stranger"}},
        {"bits": (32,)},
        {"revocations_issued": NOW - 10, "max_revocation_age_s": 10.0},
    ):
        cohort = Cohort.open_fresh(4)
        cohort.roster_reply(FIRST, cohort.messages[FIRST], **changes)


def test_the_default_policy_wants_eight_and_a_week_old_revocations_at_most():
    policy = Cohort(4).policy()
    fields = {name: getattr(policy, name) for name in policy.__dataclass_fields__ if name not in ("n_min",)}
    default = secagg.DevicePolicy(**fields)
    assert (default.n_min, default.bits) == (8, (16, 32))
    assert (default.max_session_s, default.max_revocation_age_s) == (86_400.0, 604_800.0)


def test_its_own_bundle_must_stand_in_the_roster_once_and_unaltered(cohort):
    message = "the bundle of this device does not stand in the roster once and unaltered"

    def other_hash(descriptor):
        descriptor.roster[0].bundle_sha256 = bytes(32)

    refuses(cohort, RefusedError, message, roster=altered(cohort.messages[FIRST], other_hash))
    stranger = Cohort.open_fresh(4)
    stranger.check_in([FIRST])
    with raises(RefusedError, message):
        secagg.handle_roster(stranger.states[FIRST], stranger.messages[FIRST], stranger.policy())


def swap_bundle(cohort, name: str, bundle: bytes) -> bytes:
    """A roster in which ``name`` checks in with ``bundle``, hash and all."""
    roster = pb.Roster.FromString(cohort.messages[FIRST])
    position = cohort.names.index(name)
    bundles = [*roster.bundles[:position], bundle, *roster.bundles[position + 1 :]]

    def change(descriptor):
        descriptor.roster[position].bundle_sha256 = sha256(bundle)

    return altered(cohort.messages[FIRST], change, bundles=bundles)


def test_a_peer_whose_bundle_was_swapped_on_the_way_is_refused(cohort):
    roster = pb.Roster.FromString(cohort.messages[FIRST])
    roster.bundles[2] = rebundle(cohort, "device-03", lambda bundle: setattr(bundle, "mask_key", b"\7" * 32))
    refuses(
        cohort,
        RefusedError,
        "the bundle is not the one that the descriptor names",
        roster=roster.SerializeToString(),
        blames="device-03",
    )


def test_a_bundle_for_each_entry_of_the_roster(cohort):
    roster = pb.Roster.FromString(cohort.messages[FIRST])
    fewer = altered(cohort.messages[FIRST], lambda descriptor: None, bundles=roster.bundles[:3])
    refuses(cohort, RefusedError, "3 bundles came for a roster of 4", roster=fewer)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: setattr(b, "suite", "v0"), "the bundle is for 'v0', not 'cohort-secagg-v2'"),
        (lambda b: setattr(b, "device_id", ""), "the device's name has 0 bytes, expected 1 to 128"),
        (lambda b: setattr(b, "device_id", "x"), "the certificate is for 'device-03', the bundle for 'x'"),
        (lambda b: setattr(b, "nonce", b"1"), "the nonce has 1 bytes, expected 32"),
        (lambda b: setattr(b, "mask_key", b"1"), "the mask key has 1 bytes, expected 32"),
        (lambda b: setattr(b, "channel_key", b"1" * 33), "the channel key has 33 bytes, expected 32"),
        (lambda b: setattr(b, "seed_sha256", b""), "the seed's hash has 0 bytes, expected 32"),
        (lambda b: setattr(b, "expires", NOW), "the bundle expired at 1000.0, now is 1000.0"),
        (lambda b: setattr(b, "expires", float("nan")), "the bundle expired at nan, now is 1000.0"),
        (
            lambda b: setattr(b, "certificate_sha256", bytes(32)),
            "the bundle was signed beside another certificate",
        ),
    ],
)
def test_a_peer_with_a_bad_bundle_is_refused_by_name(cohort, change, message):
    roster = swap_bundle(cohort, "device-03", rebundle(cohort, "device-03", change))
    refuses(cohort, MessageError, message, roster=roster, blames="device-03")


def test_a_peer_without_a_valid_certificate_is_refused_by_name(cohort):
    def strict(der):
        if der.startswith(b"device-03"):
            raise VerificationError("expired yesterday")
        return verify_certificate(der)

    message = "the certificate is not valid: expired yesterday"
    refuses(cohort, MessageError, message, blames="device-03", verify_certificate=strict)


def test_a_peer_whose_bundle_another_key_signed_is_refused_by_name(cohort):
    roster = swap_bundle(cohort, "device-03", rebundle(cohort, "device-03", key=private_key("device-04")))
    refuses(cohort, MessageError, "the signature (bundle) does not verify", roster=roster, blames="device-03")


def test_a_device_cannot_stand_in_for_another(cohort):
    roster = swap_bundle(cohort, "device-03", cohort.bundles["device-02"])
    refuses(cohort, RefusedError, "the bundle is that of device-02", roster=roster, blames="device-03")


@pytest.mark.parametrize("field", ["mask_key", "channel_key"])
@pytest.mark.parametrize("other", ["mask_key", "channel_key"])
def test_keys_that_stand_twice_in_the_cohort_are_refused(cohort, field, other):
    taken = getattr(pb.Bundle.FromString(pb.SignedBundle.FromString(cohort.bundles["device-02"]).bundle), other)
    bundle = rebundle(cohort, "device-03", lambda bundle: setattr(bundle, field, taken))
    roster = swap_bundle(cohort, "device-03", bundle)
    refuses(cohort, MessageError, "a name or key stands twice in the cohort", roster=roster, blames="device-03")


def test_a_device_that_uses_one_key_twice_is_refused(cohort):
    bundle = rebundle(cohort, "device-03", lambda bundle: setattr(bundle, "mask_key", bundle.channel_key))
    roster = swap_bundle(cohort, "device-03", bundle)
    refuses(cohort, MessageError, "a name or key stands twice in the cohort", roster=roster, blames="device-03")


def test_an_identity_key_that_stands_twice_is_refused(cohort):
    der = certificate("device-03", private_key("device-02"))
    bundle = rebundle(cohort, "device-03", key=private_key("device-02"), der=der)
    roster = swap_bundle(cohort, "device-03", bundle)
    refuses(cohort, MessageError, "a name or key stands twice in the cohort", roster=roster, blames="device-03")


def test_a_peer_key_of_small_order_is_refused(cohort):
    bundle = rebundle(cohort, "device-03", lambda bundle: setattr(bundle, "channel_key", bytes(32)))
    roster = swap_bundle(cohort, "device-03", bundle)
    refuses(cohort, MessageError, "the channel key is a point of small order", roster=roster, blames="device-03")


def test_the_same_roster_again_gets_the_stored_answer_and_another_is_refused(cohort):
    first = cohort.roster_reply(FIRST, cohort.messages[FIRST])
    assert cohort.roster_reply(FIRST, cohort.messages[FIRST], last_accepted=(7, 1)) == first
    second = altered(cohort.messages[FIRST], setting("attempt", 2))
    with raises(StageError, "shared already, and the request differs from the one that was answered"):
        secagg.handle_roster(cohort.states[FIRST], second, cohort.policy())


def test_a_bundle_is_made_only_while_it_can_be_used():
    make = lambda expires: secagg.create_bundle(  # noqa: E731
        private_key(FIRST), FIRST, certificate(FIRST), now=NOW, expires=expires, entropy=bytes
    )
    with raises(MessageError, "a bundle that expires at 1000.0 is useless now, at 1000.0"):
        make(NOW)
    state, bundle = make(NOW + 1)
    assert (state.phase, state.bundle, state.accepted, state.deadline) == (secagg.Phase.BUNDLED, bundle, None, None)
    assert not state.spent


@pytest.mark.parametrize(("name", "size"), [("", 0), ("é" * 65, 130)])
def test_a_bundle_needs_a_name_that_fits(name, size):
    with raises(MessageError, f"the device's name has {size} bytes, expected 1 to 128"):
        secagg.create_bundle(private_key(FIRST), name, b"", now=NOW, expires=EXPIRES, entropy=bytes)


def test_a_bundle_holds_public_values_only():
    cohort = Cohort(2)
    bundle = cohort.check_in()[FIRST]
    secrets = cohort.states[FIRST].secrets
    for secret in (secrets.mask_key, secrets.channel_key, secrets.seed, secrets.dealing_seed):
        assert len(secret) == 32 and secret not in bundle
    assert len({secrets.mask_key, secrets.channel_key, secrets.seed, secrets.dealing_seed}) == 4
    body = pb.Bundle.FromString(pb.SignedBundle.FromString(bundle).bundle)
    assert body.suite == secagg.SUITE == "cohort-secagg-v2"
    assert body.mask_key == keys.public_key_of(secrets.mask_key)
    assert body.channel_key == keys.public_key_of(secrets.channel_key)
    assert body.seed_sha256 == sha256(secrets.seed)
    assert body.expires == EXPIRES and len(body.nonce) == 32


def test_a_round_far_above_the_last_one_is_refused(cohort):
    refuses(cohort, RefusedError, "round 7 is more than 3 above the last one, 3", last_accepted=(3, 1), max_round_jump=3)
    cohort.roster_reply(FIRST, cohort.messages[FIRST], last_accepted=(4, 1), max_round_jump=3)
