"""Budgets and rates on a device: shared by threads, kept over restarts, and open about what they cost."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edge_client.inference.escalation import EscalationFailed
from edge_client.inference.pipeline import Agent
from edge_client.store import OpenQuestion, open_file, restore
from fedge.costs import Kind
from fedge.routing import Policy

UNSURE, SURE_LEFT = np.full(4, 0.5, dtype=np.float32), np.array([1, 1, 0, 0], dtype=np.float32)
DAY = 86_400.0


@pytest.fixture
def running(make_bench, make_release, certify):
    """A device with a certified release, its policy as TOML; it draws no probes unless told to."""

    def make(policy: str = "", *, rate: float = 0.0, **device):
        bench, release = make_bench(policy=Policy.from_toml(policy), **device), make_release()
        bench.source.publish(release, certify(release, rate=rate, life_s=1_000_000))
        bench.agent.sync()
        bench.central.price_usd = bench.agent.device.meter.book.central_price_usd
        return bench

    return make


def price_of(bench) -> float:
    return bench.agent.device.meter.book.central_price_usd


def reasons(bench, count: int, query=UNSURE) -> list[str]:
    return [bench.agent.ask(query).reason for _ in range(count)]


@pytest.mark.parametrize(("policy_usd", "device_usd", "asked"), [(3.5, None, 3), (3.5, 1.5, 1), (1.5, 3.5, 1), (0, None, 0)])
def test_the_smaller_of_the_policys_budget_and_the_devices_own_holds(running, policy_usd, device_usd, asked):
    price = price_of(running())
    bench = running(
        f"[budget]\ndaily_usd = {policy_usd * price!r}",
        daily_budget_usd=None if device_usd is None else device_usd * price,
    )
    assert reasons(bench, 5) == ["below_threshold"] * asked + ["over_budget"] * (5 - asked)
    assert bench.store.counters().get("answered.device.over_budget", 0) == 5 - asked
    bench.clock.now += DAY
    assert reasons(bench, 1) == ["below_threshold" if asked else "over_budget"]


def test_a_rate_lets_a_burst_through_and_then_as_many_as_flow_in(running):
    bench = running("[rate]\nper_minute = 6\nburst = 2")
    assert reasons(bench, 4) == ["below_threshold"] * 2 + ["rate_limited"] * 2
    bench.clock.now += 9.9
    assert reasons(bench, 1) == ["rate_limited"]
    bench.clock.now += 0.2
    assert reasons(bench, 2) == ["below_threshold", "rate_limited"]
    bench.clock.now += DAY
    assert reasons(bench, 3) == ["below_threshold"] * 2 + ["rate_limited"]


def test_both_rates_hold_and_a_question_that_one_refuses_costs_nothing_of_the_other(running):
    bench = running("[rate]\nper_minute = 60\nburst = 2\nper_hour = 4")
    assert reasons(bench, 3) == ["below_threshold"] * 2 + ["rate_limited"]
    bench.clock.now += 2.0
    assert reasons(bench, 3) == ["below_threshold"] * 2 + ["rate_limited"]
    bench.clock.now += 60.0
    assert reasons(bench, 1) == ["rate_limited"]
    bench.clock.now += 840.0
    assert reasons(bench, 2) == ["below_threshold", "rate_limited"]


def test_what_is_limited_is_degraded_outside_the_certificate_and_never_reaches_central(running):
    bench = running("[rate]\nper_hour = 1", rate=1.0)
    first, second = bench.agent.ask_many([SURE_LEFT, SURE_LEFT[::-1]])
    assert (first.probe, second.probe) == (True, False)
    assert (second.answered_by, second.reason, second.degraded) == ("device", "confident", False)
    # The second was drawn, could not be asked, and does not count.
    assert bench.store.probes.select(fresh=100, max_scored=1).running_pair[0] == 1
    third = bench.agent.ask(UNSURE)
    assert (third.answered_by, third.reason, third.degraded) == ("device", "rate_limited", True)
    assert bench.agent.ask(UNSURE, mode="central").reason == "rate_limited"
    assert len(bench.central.requests) == 1
    assert bench.store.counters()["degraded"] == 2


def test_limits_never_open_what_policy_keeps_in_and_cost_it_nothing(running):
    bench = running('[rate]\nper_hour = 1\n[budget]\ndaily_usd = 0\n[labels.left]\nrule = "never-escalate"')
    for mode in ("auto", "central"):
        answer = bench.agent.ask(SURE_LEFT, mode=mode)
        assert (answer.answered_by, answer.reason) == ("device", "policy_never_escalate")
    assert bench.agent.ask(SURE_LEFT[::-1], mode="central").reason == "over_budget"
    assert bench.store.allowances.bucket("per_hour") is None


def test_a_batch_is_limited_as_its_queries_one_after_another(running):
    bench = running("[rate]\nper_hour = 3")
    batch = [answer.reason for answer in bench.agent.ask_many([UNSURE, SURE_LEFT, UNSURE, UNSURE, UNSURE])]
    assert batch == ["below_threshold", "confident", "below_threshold", "below_threshold", "rate_limited"]


def test_limits_outlive_a_restart(running, tmp_path):
    price = price_of(running())
    bench = running(f"[budget]\ndaily_usd = {2.5 * price!r}\n[rate]\nper_hour = 3")
    assert reasons(bench, 1) == ["below_threshold"]
    again = Agent(bench.agent.device, store=restore(bench.store.dump()), releases=bench.manager, central=bench.central)
    assert again.spending.status(bench.clock.now) == {
        "budget": {"daily_usd": 2.5 * price, "left_usd": pytest.approx(1.5 * price)},
        "rate": {"per_hour": {"burst": 3, "left": 2}},
    }
    file = open_file(tmp_path / "device.sqlite")
    file.allowances.fill("per_hour", 0.25, at=7.0)
    file.allowances.set_aside(3, day_of=DAY)
    file.close()
    opened = open_file(tmp_path / "device.sqlite")
    assert opened.allowances.bucket("per_hour") == (0.25, 7.0)
    assert (opened.allowances.under_way(day_of=DAY), opened.allowances.under_way(day_of=0.0)) == (3, 0)


def test_money_under_way_when_the_process_ended_stays_set_aside_for_that_day_alone(running):
    price = price_of(running())
    bench = running(f"[budget]\ndaily_usd = {2.5 * price!r}")

    def killed(requests, timeout_s):
        raise SystemExit

    answer_many, bench.central.answer_many = bench.central.answer_many, killed
    with pytest.raises(SystemExit):
        bench.agent.ask(UNSURE)
    bench.central.answer_many = answer_many
    assert reasons(bench, 2) == ["below_threshold", "over_budget"]
    bench.clock.now += DAY
    assert reasons(bench, 3) == ["below_threshold", "below_threshold", "over_budget"]


def test_a_question_that_central_failed_gives_its_money_back(running):
    price = price_of(running())
    bench = running(f"[budget]\ndaily_usd = {1.5 * price!r}")
    bench.central.failure = EscalationFailed("gone")
    assert reasons(bench, 3) == ["offline"] * 3
    bench.central.failure = None
    assert reasons(bench, 2) == ["below_threshold", "over_budget"]


def test_threads_never_spend_the_same_money_twice(running):
    """All threads are in central at once, so that none of them sees what another one has paid."""
    price = price_of(running())
    bench = running(f"[budget]\ndaily_usd = {5.5 * price!r}")
    inside, answer_many = threading.Barrier(5, timeout=30), bench.central.answer_many

    def together(requests, timeout_s):
        inside.wait()
        return answer_many(requests, timeout_s)

    bench.central.answer_many = together
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(bench.agent.ask, [UNSURE] * 12))
    assert sorted(answer.reason for answer in answers) == ["below_threshold"] * 5 + ["over_budget"] * 7
    assert bench.store.ledger.totals().quantity(Kind.ESCALATIONS) == 5
    assert bench.store.allowances.under_way(day_of=bench.clock.now) == 0


def test_threads_never_take_the_same_token_twice(running):
    bench = running("[rate]\nper_hour = 7")
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(bench.agent.ask, [UNSURE] * 40))
    assert sum(answer.answered_by == "central" for answer in answers) == len(bench.central.requests) == 7


def test_open_questions_are_caught_up_within_the_limits(running):
    bench = running("[rate]\nper_minute = 60\nburst = 2")
    for number in range(5):
        bench.store.outbox.add([OpenQuestion(bytes([number]), UNSURE, str(number), "", 0.0)])
    assert (bench.agent.catch_up(), bench.agent.catch_up()) == (2, 0)
    bench.clock.now += 1.0
    assert bench.agent.catch_up() == 1
    bench.clock.now += 60.0
    assert (bench.agent.catch_up(), bench.agent.catch_up()) == (2, 0)


def test_a_queued_query_over_its_rate_is_put_to_central_later(running):
    bench = running("[rate]\nper_hour = 1")
    first, second = bench.agent.ask_many([SURE_LEFT, UNSURE], mode="central", queue=True)
    assert (first.reason, second.reason, second.queued) == ("forced_central", "rate_limited", True)
    bench.clock.now += 3600.0
    assert bench.agent.catch_up() == 1
