"""Counts sessions with range proofs: honest sums come out exactly, and lies are dropped by name or spoil the sum."""

from dataclasses import replace

import numpy as np
import pytest
from secagg_cohort import TASK, Cohort, private_key, raises

from fedge import secagg
from fedge.errors import InputError
from fedge.layouts import CountsLayout
from fedge.routing.probe_cap import MOST_CAP
from fedge.routing.probe_noise import LEAST_EPSILON, ProbeNoise
from fedge.secagg import CodecError, MessageError, Phase, RefusedError, SessionAborted, Task, keys, plain
from fedge.secagg.range_claim import PROOF_LIMIT
from fedge.secagg.wire import LIMITS, sha256, vector_hash
from protos.fedge.secagg.v1 import secagg_pb2 as pb

BINS, CAP, STORE, LIFT, ROOM = 8, 6, 20, 5, 2
LAYOUT = CountsLayout(BINS, lift=LIFT)
CLAIM = LAYOUT.claim(probe_cap=CAP, probe_store=STORE, room=ROOM)
COUNTS = replace(TASK, purpose="counts", probe_epsilon=2.0, probe_cap=CAP, range_proofs=True, probe_store=STORE)
SIZE = CLAIM.statement.proof_bytes
LIAR = "device-03"
FIRST_STORED_WRONG = LAYOUT.coarse_bins
FIRST_NEW = 2 * LAYOUT.coarse_bins  # of the integers: new probes seen, by bin
FIRST_WRONG = FIRST_NEW + BINS
PAIR = FIRST_WRONG + BINS


def counts_of(number: int, **changes) -> np.ndarray:
    """What device ``number`` counts: 5 fresh probes, of which 2 disagreed, in bins of its own."""
    seen, wrong = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    seen[number % BINS], wrong[number % BINS] = 5, 2
    values = {
        "agreed": np.array([3 + number % 3 - 1, 7, 0]),  # noise included
        "disagreed": np.array([2 - 1, -(number % 2), 0]),  # likewise
        "new_seen": seen,
        "new_disagreed": wrong,
        "running_seen": 4,
        "running_disagreed": number % 3,
    }
    return LAYOUT.encode(**{**values, **changes})


def cohort_of(n=5, *, claim=CLAIM, task=COUNTS, **arguments) -> Cohort:
    cohort = Cohort(n, task=task, claim=claim, reals=0, integers=LAYOUT.integers, **arguments)
    for number, name in enumerate(cohort.names):
        cohort.vectors[name] = secagg.encode(np.zeros(0), counts_of(number), cohort.config, bytes(32))
    return cohort


def summed(cohort: Cohort, outcome) -> np.ndarray:
    return secagg.decode(outcome.total, len(outcome.survivors), cohort.config).integers


def honest(cohort: Cohort, names) -> np.ndarray:
    return np.sum([counts_of(cohort.names.index(name)) for name in names], axis=0)


def resigned(name: str, reply: bytes, *, proof: bytes | None = None, vector=None, digest: bytes | None = None) -> bytes:
    """The device's reply with its proof or vector replaced, signed as by the device itself."""
    message = pb.MaskedReply.FromString(reply)
    body = pb.MaskedVector.FromString(message.vector.body)
    if proof is not None:
        message.range_proof = proof
        body.range_proof_sha256 = sha256(proof) if digest is None else digest
    if vector is not None:
        body.vector_blake2b = vector_hash(vector)
    message.vector.body = body.SerializeToString()
    message.vector.signature = keys.sign(private_key(name), "vector", message.vector.body)
    return message.SerializeToString()


def proof_in(reply: bytes) -> bytes:
    return pb.MaskedReply.FromString(reply).range_proof


def masked_by_all(cohort: Cohort) -> dict:
    delivery = cohort.share(cohort.open())
    return {name: cohort.masked(name, message) for name, message in delivery.items()}


def deliver(cohort: Cohort, replies: dict) -> None:
    for name, (reply, vector) in replies.items():
        secagg.handle_masked(cohort.server, name, reply, vector)


def finish(cohort: Cohort):
    return cohort.unmask(cohort.agree(secagg.create_consistency_messages(cohort.server)))


class TestHonest:
    @pytest.mark.parametrize("bits", [16, 32])
    def test_the_sum_is_exact_and_that_of_the_plain_stand_in(self, bits):
        proved, bare = cohort_of(bits=bits), cohort_of(bits=bits, protocol=plain)
        outcome, unmasked = proved.run(), bare.run()
        assert summed(proved, outcome).tolist() == honest(proved, proved.names).tolist()
        np.testing.assert_array_equal(outcome.total, unmasked.total)

    def test_dropouts_at_every_stage_are_recovered_from(self):
        cohort = cohort_of(14)
        gone = {"share": ["device-01"], "mask": ["device-04"], "agree": ["device-06"], "unmask": ["device-09"]}
        outcome = cohort.run(**gone)
        left = [name for name in cohort.names if name not in ("device-01", "device-04")]
        assert list(outcome.survivors) == left
        assert summed(cohort, outcome).tolist() == honest(cohort, left).tolist()

    def test_a_repeated_request_gets_the_stored_proof_and_a_restart_makes_the_same_one(self):
        cohort = cohort_of()
        delivery = cohort.share(cohort.open())
        before = cohort.states[LIAR]
        after, reply, _ = secagg.handle_shares(before, delivery[LIAR], cohort.vectors[LIAR], CLAIM)
        again, repeated, _ = secagg.handle_shares(after, delivery[LIAR], cohort.vectors[LIAR], None)
        assert (again, repeated) == (after, reply) and proof_in(reply)
        _, anew, _ = secagg.handle_shares(before, delivery[LIAR], cohort.vectors[LIAR], CLAIM)
        assert anew == reply

    def test_the_server_takes_a_repeated_reply_once(self):
        cohort = cohort_of()
        replies = masked_by_all(cohort)
        deliver(cohort, replies)
        deliver(cohort, replies)
        assert summed(cohort, finish(cohort)).tolist() == honest(cohort, cohort.names).tolist()

    def test_all_that_may_stand_in_a_range_can_be_proved(self):
        cohort, wrong, seen = cohort_of(), np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
        wrong[0] = seen[0] = CAP
        extreme = {
            "agreed": np.array([-ROOM, 0, 0]),
            "disagreed": np.array([STORE, 0, ROOM]),
            "new_seen": seen,
            "new_disagreed": wrong,
            "running_seen": CAP,
            "running_disagreed": CAP,
        }
        cohort.vectors[LIAR] = secagg.encode(np.zeros(0), LAYOUT.encode(**extreme), cohort.config, bytes(32))
        assert LIAR in cohort.run().survivors


def with_integer(index: int, value: int):
    def change(integers: np.ndarray) -> None:
        integers[index] = value

    return change


def more_of_what_agrees(integers: np.ndarray) -> None:
    integers[FIRST_NEW : FIRST_NEW + 3] = 3


UNPROVABLE = {
    "a disagreement of others subtracted": with_integer(FIRST_WRONG, -1),
    "more disagreements than probes": with_integer(FIRST_WRONG, 1),
    "more new probes than the cap": with_integer(FIRST_NEW + 2, CAP + 1),
    "many bins that are over the cap together": more_of_what_agrees,
    "a running pair over the cap": with_integer(PAIR, CAP + 1),
    "a running pair of more disagreements than probes": with_integer(PAIR + 1, 5),
    "more stored probes than the limit": with_integer(0, LIFT + STORE + ROOM + 1),
    "more stored disagreements hidden than noise explains": with_integer(FIRST_STORED_WRONG, LIFT - ROOM - 1),
    "hidden at the strictest threshold and shown at a lax one": with_integer(FIRST_NEW - 1, 0),
}


class TestLies:
    @pytest.mark.parametrize("lie", UNPROVABLE)
    def test_a_vector_outside_its_ranges_cannot_be_proved(self, lie):
        cohort = cohort_of()
        delivery = cohort.share(cohort.open())
        integers = counts_of(2)
        UNPROVABLE[lie](integers)
        vector = cohort.vectors[LIAR].copy()
        vector[:-1] = integers.astype("<u4")
        with pytest.raises(CodecError):
            secagg.handle_shares(cohort.states[LIAR], delivery[LIAR], vector, CLAIM)
        assert not cohort.states[LIAR].spent and cohort.states[LIAR].phase is Phase.SHARED

    @pytest.mark.parametrize("lie", UNPROVABLE)
    @pytest.mark.parametrize("bits", [16, 32])
    def test_masking_another_vector_than_was_proved_spoils_the_sum(self, lie, bits):
        cohort = cohort_of(bits=bits)
        replies = masked_by_all(cohort)
        integers, digits = counts_of(2), cohort.config.digits
        UNPROVABLE[lie](integers)
        reply, masked = replies[LIAR]
        lying = masked.copy()
        lying[:-1:digits] += (integers - counts_of(2)).astype(masked.dtype)
        deliver(cohort, {**replies, LIAR: (resigned(LIAR, reply, vector=lying), lying)})
        with pytest.raises(SessionAborted, match=r"not that of the committed values|exceeds what") as aborted:
            finish(cohort)
        assert aborted.value.is_spoiled and not aborted.value.exclude

    @pytest.mark.parametrize("lie", UNPROVABLE)
    def test_where_nothing_is_private_a_lie_is_seen_and_drops_its_device(self, lie):
        cohort, integers = cohort_of(protocol=plain), counts_of(2)
        UNPROVABLE[lie](integers)
        cohort.vectors[LIAR] = cohort.vectors[LIAR].copy()
        cohort.vectors[LIAR][:-1] = integers.astype("<u4")
        replies = masked_by_all(cohort)
        reply, vector = replies.pop(LIAR)
        with raises(MessageError, "a count lies outside its range", blames=LIAR):
            plain.handle_masked(cohort.server, LIAR, reply, vector)

    @pytest.mark.parametrize("protocol", [secagg, plain])
    def test_no_claim_is_about_the_tripwire_which_spoils_the_sum_as_ever(self, protocol):
        cohort = cohort_of(protocol=protocol)
        cohort.vectors[LIAR] = cohort.vectors[LIAR].copy()
        cohort.vectors[LIAR][-1] = 0
        with pytest.raises(SessionAborted, match="the tripwire counts 4 devices where 5 delivered") as aborted:
            cohort.run()
        assert aborted.value.is_spoiled

    def test_without_proofs_a_subtracted_disagreement_passes_unseen(self):
        task = replace(COUNTS, range_proofs=False, probe_store=0)
        cohort = cohort_of(task=task, claim=None)
        lying = cohort.vectors[LIAR].copy()
        lying[FIRST_WRONG : FIRST_WRONG + 2] -= np.uint32(1)
        cohort.vectors[LIAR] = lying
        sums = LAYOUT.decode(summed(cohort, cohort.run()), devices=5)
        assert sums.new_disagreed.sum() == 5 * 2 - 2

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda replies, proof: b"", f"the range proof has 0 bytes, expected {SIZE}"),
            (lambda replies, proof: proof[:-32], f"the range proof has {SIZE - 32} bytes, expected {SIZE}"),
            (lambda replies, proof: proof[:-32] + bytes(32), "the range proof shows a value outside its range"),
            (lambda replies, proof: proof_in(replies["device-02"][0]), "the range proof does not open its commitment"),
        ],
        ids=["none", "short", "changed", "another device's"],
    )
    def test_a_proof_that_does_not_hold_drops_its_device_and_not_the_session(self, change, message):
        cohort = cohort_of()
        replies = masked_by_all(cohort)
        reply, vector = replies.pop(LIAR)
        bad = change(replies, proof_in(reply))
        with raises(MessageError, message, blames=LIAR):
            secagg.handle_masked(cohort.server, LIAR, resigned(LIAR, reply, proof=bad), vector)
        deliver(cohort, replies)
        outcome = finish(cohort)
        assert LIAR not in outcome.survivors
        assert summed(cohort, outcome).tolist() == honest(cohort, outcome.survivors).tolist()

    def test_a_proof_must_be_the_one_that_was_signed(self):
        cohort = cohort_of()
        reply, vector = masked_by_all(cohort)[LIAR]
        message = pb.MaskedReply.FromString(reply)
        message.range_proof = message.range_proof[1:] + b"\1"
        with raises(MessageError, "the range proof is not the one that was signed", blames=LIAR):
            secagg.handle_masked(cohort.server, LIAR, message.SerializeToString(), vector)

    def test_a_proof_of_an_earlier_session_is_refused(self):
        first, second = cohort_of(seed=1), cohort_of(seed=2)
        old, (reply, vector) = masked_by_all(first)[LIAR][0], masked_by_all(second)[LIAR]
        with raises(MessageError, "the range proof does not open its commitment", blames=LIAR):
            secagg.handle_masked(second.server, LIAR, resigned(LIAR, reply, proof=proof_in(old)), vector)

    @pytest.mark.parametrize("digest", [None, b""])
    def test_a_proof_that_nobody_asked_for_is_refused(self, digest):
        cohort = cohort_of(task=replace(COUNTS, range_proofs=False, probe_store=0), claim=None)
        reply, vector = masked_by_all(cohort)[LIAR]
        with raises(MessageError, "a range proof came in a session without", blames=LIAR):
            secagg.handle_masked(cohort.server, LIAR, resigned(LIAR, reply, proof=b"1", digest=digest), vector)


class TestTasks:
    def test_the_task_says_it_on_the_wire(self):
        assert Task.from_message(COUNTS.to_message()) == COUNTS

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"purpose": "usage", "probe_epsilon": 0.0, "probe_cap": 0},
                "a session of purpose usage cannot prove counts of at most 0 fresh and 20 stored probes",
            ),
            (
                {"probe_store": CAP - 1},
                "a session of purpose counts cannot prove counts of at most 6 fresh and 5 stored probes",
            ),
            (
                {"probe_store": 2**20 + 1},
                "a session of purpose counts cannot prove counts of at most 6 fresh and 1048577 stored probes",
            ),
            ({"range_proofs": False}, "a limit of 20 stored probes is for sessions with range proofs"),
        ],
    )
    def test_a_task_that_contradicts_itself_is_refused(self, change, message):
        with raises(MessageError, message):
            Task.from_message(replace(COUNTS, **change).to_message())

    @pytest.mark.parametrize("end", ["device", "server"])
    def test_an_end_that_does_not_know_the_claim_takes_no_part(self, end):
        cohort = cohort_of()
        missing = "the task asks for range proofs, and this end was not told what they claim"
        if end == "server":
            with raises(RefusedError, missing):
                cohort.open(claim=None)
            return
        delivery = cohort.share(cohort.open())
        with raises(RefusedError, missing):
            secagg.handle_shares(cohort.states[LIAR], delivery[LIAR], cohort.vectors[LIAR])

    def test_the_statement_of_a_live_session_is_a_vector(self):
        # Fixed once from this implementation: a change of these bytes is a change of the protocol (docs/protocol.md).
        noise = ProbeNoise(2.0, 1)
        claim = CountsLayout(40, lift=noise.bound).claim(probe_cap=8, probe_store=64, room=noise.room)
        assert (noise.room, noise.bound, len(claim.statement.limits), claim.statement.proof_bytes) == (9, 23, 102, 6_176)
        digest = "77d321663d0515dd2b90a7e3e0ff181b4a952a36f05381cd49634341f132a8f5"
        assert sha256(claim.statement.to_bytes()).hex() == digest

    def test_the_largest_grid_cap_and_store_fit_into_a_reply_with_little_to_spare(self):
        noise = ProbeNoise(LEAST_EPSILON, 1)
        claim = CountsLayout(256, lift=noise.bound).claim(probe_cap=MOST_CAP, probe_store=8 * MOST_CAP, room=noise.room)
        reply = pb.MaskedReply.FromString(masked_by_all(cohort_of())[LIAR][0])
        reply.range_proof = bytes(claim.statement.proof_bytes)
        assert 0.95 * LIMITS[pb.MaskedReply] < reply.ByteSize() <= LIMITS[pb.MaskedReply]
        reply.range_proof = bytes(PROOF_LIMIT)
        assert reply.ByteSize() <= LIMITS[pb.MaskedReply]

    def test_a_proof_that_no_reply_has_room_for_is_an_error_of_the_settings(self):
        with pytest.raises(InputError, match=r"would take \d+ bytes, at most 64512 fit: lower the probe cap"):
            CountsLayout(256, lift=23).claim(probe_cap=5_000, probe_store=40_000, room=9)
