"""One cohort from check-in to the sum. Reads as the description of the protocol; the details stand in the other files."""

import os

import numpy as np
import pytest
from secagg_cohort import (
    DEADLINE,
    EXPIRES,
    NOW,
    TASK,
    Cohort,
    certificate,
    private_key,
    verify_certificate,
)

from fedge import secagg
from fedge.identity import issue_certificate, new_certificate_authority
from fedge.identity import verify_certificate as verify_x509
from fedge.secagg import plain


def test_five_devices_one_drops_at_each_late_stage_and_the_server_learns_their_sum():
    names = [f"device-{i}" for i in range(1, 6)]
    config = secagg.SessionConfig(
        reals=2, integers=1, bits=32, cohort_max=16, scale=1.0, clip_norm=1.0, weight_cap=100, n_min=3, deadline=DEADLINE
    )
    round_key = private_key("round")
    values = {name: (np.array([0.3, -0.2]) * i, np.array([i])) for i, name in enumerate(names)}

    # Step 0. Each device checks in with one-time keys, trains, and keeps the result to itself.
    states, bundles = {}, {}
    for name in names:
        states[name], bundles[name] = secagg.create_bundle(
            private_key(name), name, certificate(name), now=NOW, expires=EXPIRES, entropy=os.urandom
        )

    # Step 1. The server fixes the cohort in a signed descriptor.
    server, rosters = secagg.create_session(
        config,
        bundles,
        round_key=round_key,
        run="fleet",
        round=1,
        attempt=1,
        task=TASK,
        verify_certificate=verify_certificate,
        now=NOW,
        entropy=os.urandom,
    )
    policy = secagg.DevicePolicy(
        round_key=round_key.public_key(),
        verify_certificate=verify_certificate,
        revoked=frozenset(),
        federation="fleet",
        last_accepted=(0, 3),
        task=TASK,
        reals=2,
        integers=1,
        clip_norm=1.0,
        weight_cap=100,
        now=NOW,
        n_min=3,
    )

    # Step 2. Each device checks it and deals shares of its two secrets to the others.
    for name in names:
        states[name], reply = secagg.handle_roster(states[name], rosters[name], policy)
        assert states[name].accepted == (1, 1)
        secagg.handle_roster_reply(server, name, reply)

    # Step 3. The server hands the shares on; four of five devices mask their vector and send it.
    deliveries = secagg.create_share_messages(server)
    for name in names[:4]:
        encoded = secagg.encode(*values[name], config, os.urandom(32))
        states[name], reply, masked = secagg.handle_shares(states[name], deliveries[name], encoded)
        assert states[name].spent and not np.array_equal(masked, encoded)
        secagg.handle_masked(server, name, reply, masked.tobytes())

    # Step 4. They sign who delivered.
    questions = secagg.create_consistency_messages(server)
    for name in names[:4]:
        states[name], reply = secagg.handle_consistency(states[name], questions[name])
        secagg.handle_consistency_reply(server, name, reply)

    # Step 5. On those signatures, each reveals one share of everyone: of the seed if it delivered, else of the mask key.
    requests = secagg.create_unmask_messages(server)
    for name in names[:4]:
        states[name], reply = secagg.handle_unmask(states[name], requests[name])
        secagg.handle_unmask_reply(server, name, reply)

    # Step 6. The server removes the masks. The sum is that of the four.
    outcome = secagg.recover(server)
    assert outcome.survivors == tuple(names[:4])
    decoded = secagg.decode(outcome.total, 4, config)
    np.testing.assert_allclose(decoded.reals, [1.8, -1.2], atol=4 / config.quantum)
    np.testing.assert_array_equal(decoded.integers, [0 + 1 + 2 + 3])
    record = secagg.read_record(outcome.record, round_key.public_key())
    assert (record.run, record.round, record.attempt, record.survivors) == ("fleet", 1, 1, 4)


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("n", [2, 3, 8, 16])
def test_sum_is_exact_when_nobody_drops(n, bits):
    cohort = Cohort(n, bits=bits)
    outcome = cohort.run()
    assert outcome.survivors == tuple(cohort.names)
    assert outcome.total.dtype == np.dtype(f"<u{bits // 8}")
    np.testing.assert_array_equal(outcome.total, cohort.sum_of(cohort.names))


def test_sum_is_exact_when_a_third_of_the_cohort_drops():
    cohort = Cohort(16)
    gone = cohort.names
    outcome = cohort.run(share=gone[:1], mask=gone[5:7], agree=gone[9:10], unmask=gone[15:])
    assert outcome.survivors == tuple(name for name in cohort.names if name not in (*gone[:1], *gone[5:7]))
    np.testing.assert_array_equal(outcome.total, cohort.sum_of(outcome.survivors))


def test_two_runs_with_one_seed_give_the_same_bytes():
    first, second, third = Cohort(3, seed=5), Cohort(3, seed=5), Cohort(3, seed=6)
    for cohort in (first, second, third):
        cohort.run()
    assert first.view == second.view != third.view


@pytest.mark.parametrize("bits", [16, 32])
def test_plain_gives_the_same_sum_and_the_same_survivors(bits):
    drops = {"share": ["device-03"], "mask": ["device-07"], "agree": ["device-01"]}
    private, open_ = Cohort(10, bits=bits), Cohort(10, bits=bits, protocol=plain)
    masked, summed = private.run(**drops), open_.run(**drops)
    assert masked.survivors == summed.survivors
    np.testing.assert_array_equal(masked.total, summed.total)
    assert masked.total.dtype == summed.total.dtype


def test_certificates_of_the_enrolment_authority_do_in_a_cohort():
    authority = new_certificate_authority("fleet", not_before=0.0, not_after=10 * NOW)

    def enrol(name, not_after=10 * NOW):
        key = private_key(name).public_key()
        return issue_certificate(authority.private_key, "fleet", name, key, not_before=0.0, not_after=not_after)

    def verify(der):
        return verify_x509(der, authority.private_key.public_key(), NOW)

    cohort = Cohort(4)
    names = cohort.names
    for name in names:
        state, cohort.bundles[name] = secagg.create_bundle(
            private_key(name),
            name,
            enrol(name, not_after=NOW - 1 if name == names[0] else 10 * NOW),
            now=NOW,
            expires=EXPIRES,
            entropy=os.urandom,
        )
        cohort.keep(name, state)
    messages = cohort.open(verify_certificate=verify)
    assert list(cohort.server.refused) == names[:1], "its certificate ran out"
    for name, message in messages.items():
        reply = cohort.roster_reply(name, message, verify_certificate=verify)
        secagg.handle_roster_reply(cohort.server, name, reply)
    outcome = cohort.unmask(cohort.agree(cohort.mask(secagg.create_share_messages(cohort.server))))
    np.testing.assert_array_equal(outcome.total, cohort.sum_of(names[1:]))
