"""A policy on a running agent: rules, budget and rate as callers, operators and Prometheus see them."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

QUERY = "turn off the lights"


@pytest.fixture(scope="module")
def with_policy(world):
    """A joined device whose settings name a policy by a path relative to its folder."""

    def make(name: str, policy: str, *settings: str):
        home = world.home(name, settings=("central_timeout_s = 20.0", 'policy = "policy.toml"', *settings))
        (home.folder / "policy.toml").write_text(policy, encoding="utf-8")
        return home

    return make


@pytest.fixture(scope="module", autouse=True)
def central(world):
    with world.central():
        yield


def figures(api) -> dict[str, float]:
    document = api.call("GET", "/metrics")[1]
    return {
        sample.name + str(sample.labels.get("reason", "")): sample.value
        for family in text_string_to_metric_families(document["text"])
        for sample in family.samples
    }


def test_a_rate_degrades_openly_and_outlives_a_restart(world, with_policy):
    home = with_policy("rate", "[rate]\nper_hour = 1\n")
    with world.agent(home) as api:
        assert api.call("GET", "/health")[1]["rate"] == {"per_hour": {"burst": 1, "left": 1}}
        assert api.ask(QUERY, mode="central")["answered_by"] == "central"
    with world.agent(home) as api:
        answer = api.ask(QUERY, mode="central")
        assert (answer["answered_by"], answer["reason"], answer["degraded"]) == ("device", "rate_limited", True)
        assert answer["answer"] is not None
        status, health, _ = api.call("GET", "/health")
        assert (status, health["ready"], health["rate"]["per_hour"]["left"]) == (200, True, 0)
        assert "as often as the policy allows" in health["missing"]["allowance"]
        assert figures(api)["fedge_degraded_totalrate_limited"] == 1.0
        assert api.ask(QUERY)["reason"] == "confident"  # what the device knows by itself is not degraded


def test_the_smaller_budget_holds_and_what_is_left_is_shown(world, with_policy):
    home = with_policy("budget", "[budget]\ndaily_usd = 100.0\n", "daily_budget_usd = 0.001")
    with world.agent(home) as api:
        reasons = [api.ask(f"{QUERY} {number}", mode="central")["reason"] for number in range(3)]
        assert reasons == ["forced_central", "over_budget", "over_budget"]
        budget = api.call("GET", "/health")[1]["budget"]
        assert budget["daily_usd"] == 0.001 and 0 <= budget["left_usd"] < 0.001
        assert figures(api)["fedge_degraded_totalover_budget"] == 2.0
        assert figures(api)["fedge_budget_left_usd"] == pytest.approx(budget["left_usd"])


def test_a_rule_by_label_or_by_a_topics_list_of_labels_holds_on_a_live_device(world, with_policy):
    with world.agent(with_policy("none", "")) as api:
        own = api.ask(QUERY)["answer"]
        assert api.call("GET", "/health")[1]["missing"] == {}
    with world.agent(with_policy("label", f'[labels.{own}]\nrule = "always-central"\n')) as api:
        assert (api.ask(QUERY)["answered_by"], api.ask(QUERY)["reason"]) == ("central", "policy_always_central")
    with world.agent(with_policy("topic", f'[topics.lights]\nrule = "human"\nlabels = ["{own}"]\n')) as api:
        answer = api.ask(QUERY, mode="central")
        assert (answer["answered_by"], answer["reason"], answer["answer"]) == ("human", "policy_human", own)


def test_a_rule_that_names_nothing_the_release_knows_is_said_openly(world, with_policy):
    with world.agent(with_policy("typo", '[labels.labl-1]\nrule = "human"\n')) as api:
        _, health, _ = api.call("GET", "/health")
        assert health["ready"] and "labels.labl-1" in health["missing"]["policy"]
