from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_client.inference.escalation import EscalationFailed
from edge_client.store import OpenQuestion
from fedge.costs import Kind
from fedge.errors import InputError
from fedge.features import content_hash
from fedge.routing import Policy, is_probe
from protos.fedge.central.v1.central_pb2 import PURPOSE_ESCALATION, PURPOSE_FORCED, PURPOSE_PROBE

SURE_LEFT = np.array([1, 1, 0, 0], dtype=np.float32)
UNSURE = np.array([0.5, 0.5, 0.5, 0.45], dtype=np.float32)
OFFLINE = EscalationFailed("no connection", status=grpc.StatusCode.UNAVAILABLE)
REFUSED = EscalationFailed("too many pixels", status=grpc.StatusCode.INVALID_ARGUMENT)


def of_fate(drawn: bool, rate: float, *, like: np.ndarray, key: bytes = b"k" * 32) -> np.ndarray:
    """A query close to ``like`` whose coin falls as wanted."""
    for step in range(1000):
        query = like.copy()
        query[0] = np.float32(abs(query[0] - 1e-4 * step))
        if is_probe(content_hash(query), key, rate) == drawn:
            return query
    raise AssertionError


@pytest.fixture
def running(make_bench, make_release, certify):
    """A device with a certified release, threshold 0.7, and no probes unless a test asks for them."""

    def make(*, rate: float = 0.0, index: int | None = 2, scale: float = 2.0, **settings):
        bench, release = make_bench(**settings), make_release(scale=scale)
        bench.source.publish(release, certify(release, rate=rate, index=index, round_number=7))
        bench.agent.sync()
        return bench

    return make


def test_a_sure_query_stays_on_the_device(running):
    bench = running()
    answer = bench.agent.ask(SURE_LEFT)
    assert (answer.answer, answer.answered_by, answer.reason) == ("left", "device", "confident")
    assert answer.confidence == pytest.approx(1 / (1 + np.exp(-8)), abs=1e-6)
    assert (answer.degraded, answer.probe) == (False, False)
    assert answer.release == bench.manager.active.loaded.release_id
    assert bench.central.requests == []
    assert len(bench.store.memory) == len(bench.store.probes) == 0


def test_an_unsure_query_goes_to_central_and_is_remembered(running):
    bench = running()
    answer = bench.agent.ask(UNSURE)
    assert (answer.answer, answer.answered_by, answer.reason) == ("right", "central", "below_threshold")
    (request,) = bench.central.requests
    assert request.purpose == PURPOSE_ESCALATION
    assert (request.device_id, request.release_id) == ("device-1", answer.release)
    (remembered,) = bench.store.memory.all()
    assert (remembered.label, remembered.source, remembered.fresh) == ("right", "central", True)
    np.testing.assert_array_equal(remembered.distribution, [0.0, 1.0])
    np.testing.assert_array_equal(remembered.query, UNSURE)


def test_everything_escalates_until_a_certificate_allows_otherwise(running, make_bench, make_release):
    bench = make_bench()
    bench.source.publish(make_release())
    bench.agent.sync()
    query = of_fate(False, 0.3, like=SURE_LEFT)
    assert bench.agent.ask(query).reason == "no_certificate"
    bench = running(index=None)
    assert bench.agent.ask(SURE_LEFT).reason == "no_certificate"
    bench = running()
    bench.clock.now += 86_400
    assert bench.agent.ask(SURE_LEFT).reason == "no_certificate"


def test_an_expired_certificate_escalates_everything_and_promises_nothing(running):
    """Sure or not, probe or not: and a probe from then on is no pair of what was answered locally."""
    bench = running(rate=0.5)
    bench.agent.ask(of_fate(True, 0.5, like=SURE_LEFT))
    assert bench.store.probes.select(fresh=100, max_scored=1).running_pair[0] == 1
    bench.clock.now += 86_399  # the last second of its life
    assert bench.agent.ask(of_fate(False, 0.5, like=SURE_LEFT)).answered_by == "device"
    bench.clock.now += 1
    other = np.array([0.9, 0.9, 0, 0], dtype=np.float32)
    answers = bench.agent.ask_many([of_fate(fate, 0.5, like=other) for fate in (False, True)])
    assert [(answer.answered_by, answer.reason) for answer in answers] == [
        ("central", "no_certificate"),
        ("central", "probe"),
    ]
    assert bench.agent.ask(of_fate(False, 0.5, like=SURE_LEFT)).reason == "no_certificate"  # answered locally just before
    assert len(bench.store.probes) == 2
    assert bench.store.probes.select(fresh=100, max_scored=1).running_pair[0] == 1


def test_what_an_expired_certificate_cannot_escalate_is_marked_degraded(running):
    bench = running()
    bench.clock.now += 86_400
    bench.central.failure = OFFLINE
    answer = bench.agent.ask(SURE_LEFT)
    assert (answer.answer, answer.answered_by, answer.reason, answer.degraded) == ("left", "device", "offline", True)


def test_a_probe_goes_to_central_is_recorded_and_never_remembered(running):
    bench = running(rate=0.5)
    query = of_fate(True, 0.5, like=SURE_LEFT)
    answer = bench.agent.ask(query)
    assert (answer.answered_by, answer.reason, answer.probe) == ("central", "probe", True)
    assert bench.central.requests[0].purpose == PURPOSE_PROBE
    assert len(bench.store.memory) == 0
    (probe,) = bench.store.probes.all()
    assert (probe.central_label, probe.predicted_label, probe.would_stay_local) == ("left", "left", True)
    assert (probe.publication, probe.release_id) == (7, answer.release)
    assert probe.confidence == pytest.approx(answer.confidence)


def test_an_unsure_probe_adds_no_pair(running):
    bench = running(rate=0.5)
    bench.agent.ask(of_fate(True, 0.5, like=UNSURE))
    assert len(bench.store.probes) == 1
    assert bench.store.probes.select(fresh=100, max_scored=1).running_pair[0] == 0


def test_repetitions_of_a_probe_share_its_fate_and_count_once(running, certify):
    bench = running(rate=0.5)
    query = of_fate(True, 0.5, like=SURE_LEFT)
    bench.agent.ask_many([query, query])
    release = bench.source.releases[bench.manager.active.loaded.release_id]
    bench.source.publish(release, certify(release, rate=0.0, round_number=8))
    bench.agent.sync()
    assert bench.agent.ask(query).reason == "probe"  # though no new query would be drawn any more
    assert len(bench.store.probes) == bench.store.probes.select(fresh=100, max_scored=1).running_pair[0] == 1
    assert bench.store.fates.count() == (1, 1)


def test_a_query_once_seen_never_becomes_a_probe(running, certify):
    bench = running(rate=0.0)
    bench.agent.ask(UNSURE)
    release = bench.source.releases[bench.manager.active.loaded.release_id]
    bench.source.publish(release, certify(release, rate=1.0, round_number=8))
    bench.agent.sync()
    assert bench.agent.ask(UNSURE).reason == "below_threshold"
    assert bench.agent.ask(SURE_LEFT).reason == "probe"


def test_a_probe_that_fails_is_answered_locally_and_is_no_probe_yet(running):
    bench = running(rate=0.5)
    query = of_fate(True, 0.5, like=SURE_LEFT)
    bench.central.failure = OFFLINE
    answer = bench.agent.ask(query)
    assert (answer.answered_by, answer.reason, answer.degraded) == ("device", "offline", True)
    assert len(bench.store.probes) == len(bench.store.outbox) == 0
    bench.central.failure = None
    assert bench.agent.ask(query).reason == "probe"
    assert bench.store.probes.select(fresh=100, max_scored=1).running_pair[0] == 1


def test_a_failed_escalation_gives_the_local_answer_marked_degraded(running):
    bench = running()
    bench.central.failure = OFFLINE
    answer = bench.agent.ask(UNSURE)
    assert (answer.answer, answer.answered_by, answer.reason, answer.degraded) == ("left", "device", "offline", True)
    assert len(bench.store.memory) == 0
    assert bench.store.counters()["degraded"] == 1
    assert bench.store.ledger.totals().quantity(Kind.ESCALATIONS) == 0


def test_a_refused_escalation_is_not_asked_again(running):
    bench = running()
    bench.central.failure = REFUSED
    assert bench.agent.ask(UNSURE).reason == "refused"
    assert len(bench.store.outbox) == 0


def test_a_device_known_to_be_offline_makes_no_call_and_draws_no_probe(running):
    bench = running(rate=1.0, online=lambda: False)
    bench.central.failure = AssertionError
    assert bench.agent.ask(SURE_LEFT).reason == "confident"
    assert bench.agent.ask(UNSURE).reason == "offline"
    assert len(bench.store.probes) == 0


def test_questions_left_open_are_put_later_with_the_same_key(running):
    bench = running()
    bench.central.failure = OFFLINE
    answer = bench.agent.ask(UNSURE)
    assert bench.agent.catch_up() == 0
    bench.central.failure = None
    assert bench.agent.catch_up() == 1
    assert bench.agent.catch_up() == 0
    (request,) = bench.central.requests
    assert request.idempotency_key.startswith(f"{answer.answer_id}-")
    (remembered,) = bench.store.memory.all()
    assert remembered.label == "right"
    assert bench.store.ledger.totals().quantity(Kind.ESCALATIONS) == 1


def test_a_caller_may_force_either_side(running):
    bench = running()
    local = bench.agent.ask(UNSURE, mode="local-only")
    assert (local.answered_by, local.reason, local.degraded) == ("device", "forced_local", True)
    forced = bench.agent.ask(SURE_LEFT, mode="central")
    assert (forced.answered_by, forced.reason) == ("central", "forced_central")
    assert bench.central.requests[0].purpose == PURPOSE_FORCED
    assert len(bench.store.memory) == 1


def test_a_query_drawn_as_probe_is_never_trained_on_even_where_it_was_forced(running):
    bench = running(rate=0.5)
    query = of_fate(True, 0.5, like=SURE_LEFT)
    bench.agent.ask(query, mode="local-only")
    answer = bench.agent.ask(query, mode="central")
    assert not answer.probe
    assert not bench.agent.correct(answer.answer_id, "right")
    assert len(bench.store.memory) == len(bench.store.probes) == 0
    bench.agent.ask(query)
    assert len(bench.store.probes) == 1


NEVER = Policy.from_toml('[labels.left]\nrule = "never-escalate"\n[topics.health]\nrule = "human"')


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_policy_keeps_in_never_leaves_and_is_never_drawn(data, make_bench, make_release, certify):
    bench, release = make_bench(policy=NEVER), make_release()
    certificate = certify(release, rate=data.draw(st.sampled_from([0.0, 0.5, 1.0])))
    if data.draw(st.booleans()):
        bench.source.publish(release, certificate if data.draw(st.booleans()) else None)
        bench.agent.sync()
    for _ in range(data.draw(st.integers(1, 6))):
        query = np.array(data.draw(st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4)), dtype=np.float32)
        topic = data.draw(st.sampled_from([None, "health", "sport"]))
        mode = data.draw(st.sampled_from(["auto", "central", "local-only"]))
        sent = len(bench.central.requests)
        answer = bench.agent.ask(query, mode=mode, topic=topic)
        own = None if bench.manager.active is None else ("left" if query[:2].sum() >= query[2:].sum() else "right")
        if topic == "health" or own in (None, "left"):
            assert len(bench.central.requests) == sent
            assert answer.answered_by in ("device", "human")


def test_what_policy_keeps_in_is_not_drawn_even_at_a_rate_of_one(running):
    bench = running(rate=1.0, policy=NEVER)
    bench.agent.ask_many([SURE_LEFT, SURE_LEFT[::-1]])
    assert bench.store.fates.count() == (2, 1)
    assert [probe.predicted_label for probe in bench.store.probes.all()] == ["right"]


def test_a_query_for_a_person_carries_the_devices_suggestion(running):
    answer = running(policy=NEVER).agent.ask(SURE_LEFT[::-1], topic="health")
    assert (answer.answered_by, answer.reason, answer.answer) == ("human", "policy_human", "right")


def test_without_a_release_central_answers_and_without_both_nobody_does(make_bench):
    bench = make_bench()
    query = of_fate(False, 0.3, like=SURE_LEFT)
    answer = bench.agent.ask(query)
    assert (answer.answer, answer.answered_by, answer.reason, answer.release) == ("left", "central", "no_certificate", None)
    assert answer.confidence == 0.0
    bench.central.failure = OFFLINE
    answer = bench.agent.ask(query)
    assert (answer.answer, answer.reason, answer.degraded) == (None, "offline", True)
    assert bench.agent.ask(query, mode="local-only").degraded
    assert bench.store.ledger.totals().amount_usd(kind=Kind.DEVICE_INFERENCE) == 0


def test_a_query_that_the_features_refuse_leaves_no_trace(running):
    bench = running()
    before = bench.store.dump()
    with pytest.raises(InputError):
        bench.agent.ask_many([SURE_LEFT, "turn on the light"])
    assert bench.store.dump() == before
    assert bench.agent.ask_many([]) == []


def test_a_correction_is_what_the_device_learns(running):
    bench = running()
    answer = bench.agent.ask(SURE_LEFT)
    assert bench.agent.correct(answer.answer_id, "right")
    (remembered,) = bench.store.memory.all()
    assert (remembered.label, remembered.source) == ("right", "correction")
    unsure = bench.agent.ask(UNSURE)
    assert bench.agent.correct(unsure.answer_id, "left")
    bench.agent.ask(UNSURE)
    assert [row.label for row in bench.store.memory.all()] == ["right", "left"]


def test_a_correction_names_what_is_wrong_with_it(running):
    bench = running()
    answer = bench.agent.ask(SURE_LEFT)
    with pytest.raises(InputError, match="left, right"):
        bench.agent.correct(answer.answer_id, "up")
    with pytest.raises(InputError, match="no answer has the number 99"):
        bench.agent.correct(99, "left")


def test_the_ledger_says_what_a_batch_used_and_who_pays(running):
    bench = running(rate=0.5)
    mark = bench.store.ledger.mark()
    probe, unsure = of_fate(True, 0.5, like=SURE_LEFT), of_fate(False, 0.5, like=UNSURE)
    sure = of_fate(False, 0.5, like=SURE_LEFT)
    answers = bench.agent.ask_many([sure, unsure, probe, unsure])
    totals = bench.store.ledger.totals(mark)
    meter = bench.agent.device.meter
    assert totals.quantity(Kind.DEVICE_INFERENCE) == pytest.approx(4 * 0.000784 * (6.4 - 2.7) / 4)
    assert (totals.quantity(Kind.ESCALATIONS), totals.quantity(Kind.PROBES)) == (2, 1)
    assert totals.amount_usd(kind=Kind.ESCALATIONS) == pytest.approx(0.002)
    assert totals.quantity(Kind.UPLINK_QUERIES) == sum(r.ByteSize() for r in bench.central.requests)
    assert totals.quantity(Kind.CENTRAL_ENERGY) == pytest.approx(3 * 864)
    electricity = meter.inference(queries=1, at=0.0).amount_usd
    assert [answer.usd for answer in answers] == pytest.approx([electricity, *[electricity + 0.001] * 3])


def test_counters_name_who_answered_and_why(running):
    bench = running()
    bench.agent.ask_many([SURE_LEFT, UNSURE, SURE_LEFT])
    counters = bench.store.counters()
    assert counters["answered.device.confident"] == 2
    assert counters["answered.central.below_threshold"] == 1


def test_measured_times_take_the_place_of_the_profiles(running):
    ticks = iter([0.0, 0.5, 2.0])
    bench = running(stopwatch=lambda: next(ticks))
    answer = bench.agent.ask(SURE_LEFT)
    assert answer.latency_ms == 2000.0
    joules = bench.store.ledger.totals().quantity(Kind.DEVICE_INFERENCE)
    assert joules == pytest.approx(0.5 * (6.4 - 2.7) / 4)


def test_beyond_the_days_budget_the_device_answers_until_the_next_day(running):
    bench = running()
    price = bench.agent.device.meter.book.central_price_usd
    bench = running(daily_budget_usd=2.5 * price)
    bench.central.price_usd = price
    reasons = [answer.reason for answer in bench.agent.ask_many([UNSURE] * 4)]
    assert reasons == ["below_threshold", "below_threshold", "over_budget", "over_budget"]
    bench.store.ledger.fold(bench.store.ledger.mark())
    answer = bench.agent.ask(UNSURE)
    assert (answer.answered_by, answer.reason, answer.degraded) == ("device", "over_budget", True)
    assert bench.agent.ask(UNSURE, mode="central").reason == "over_budget"
    bench.store.outbox.add([OpenQuestion(b"h", UNSURE, "k", "", 0.0)])
    assert bench.agent.catch_up() == 0
    bench.clock.now += 86_400
    assert bench.agent.catch_up() == 1
    assert bench.agent.ask(UNSURE).answered_by == "central"


def test_many_threads_share_one_agent_and_lose_nothing(running):
    bench = running(rate=0.3)
    queries = list(np.random.default_rng(9).random((80, 4), dtype=np.float32))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(bench.agent.ask, queries * 2))
    assert sorted(answer.answer_id for answer in answers) == list(range(1, 161))
    drawn = {content_hash(q) for q in queries if is_probe(content_hash(q), b"k" * 32, 0.3)}
    assert bench.store.fates.count() == (80, len(drawn))
    assert {probe.content_hash for probe in bench.store.probes.all()} == drawn
    assert not drawn & {row.content_hash for row in bench.store.memory.all()}
    assert sum(v for k, v in bench.store.counters().items() if k.startswith("answered.")) == 160
    assert bench.store.ledger.totals().quantity(Kind.ESCALATIONS, Kind.PROBES) == len(bench.central.requests)


PALETTE = np.random.default_rng(5).random((12, 4), dtype=np.float32)


@settings(max_examples=40, deadline=None)
@given(
    picks=st.lists(st.integers(0, 11), min_size=1, max_size=25),
    rate=st.sampled_from([0.0, 0.3, 1.0]),
    index=st.sampled_from([None, 0, 2, 4]),
    mode=st.sampled_from(["auto", "auto", "central", "local-only"]),
    failing=st.booleans(),
    policy=st.sampled_from([Policy.default(), NEVER]),
)
def test_a_batch_is_its_queries_one_after_another(
    picks, rate, index, mode, failing, policy, make_bench, make_release, certify
):
    release = make_release()
    benches = [make_bench(policy=policy) for _ in range(2)]
    for bench in benches:
        bench.source.publish(release, certify(release, rate=rate, index=index))
        bench.agent.sync()
        bench.central.failure = OFFLINE if failing else None
    queries = [PALETTE[i] for i in picks]
    batch, single = benches
    together = batch.agent.ask_many(queries, mode=mode)
    apart = [single.agent.ask(query, mode=mode) for query in queries]
    assert [replace(a, confidence=0, usd=0) for a in together] == [replace(a, confidence=0, usd=0) for a in apart]
    np.testing.assert_allclose([a.confidence for a in together], [a.confidence for a in apart], atol=1e-6)
    np.testing.assert_allclose([a.usd for a in together], [a.usd for a in apart], rtol=1e-9)
    one, other = batch.store, single.store
    assert [(m.content_hash, m.label, m.used) for m in one.memory.all()] == [
        (m.content_hash, m.label, m.used) for m in other.memory.all()
    ]
    key = lambda p: (p.content_hash, p.central_label, p.predicted_label, p.would_stay_local)  # noqa: E731
    assert list(map(key, one.probes.all())) == list(map(key, other.probes.all()))
    assert len({store.probes.select(fresh=100, max_scored=1).running_pair for store in (one, other)}) == 1
    assert {k: v for k, v in one.counters().items() if v} == {k: v for k, v in other.counters().items() if v}
    assert one.fates.count() == other.fates.count()
    assert sorted(q.content_hash for q in one.outbox.oldest(99)) == sorted(q.content_hash for q in other.outbox.oldest(99))
    mine, theirs = one.ledger.totals(), other.ledger.totals()
    assert mine.sums.keys() >= theirs.sums.keys()
    for kind, value in theirs.sums.items():
        assert mine.sums[kind] == pytest.approx(value)
