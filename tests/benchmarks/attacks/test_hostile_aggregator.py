"""The control of all attacks: what the hostile aggregator asks honestly, the devices give. Else "held" would say nothing."""

from benchmarks.attacks.hostile_aggregator import DEVICES, HostileAggregator, attack_fleet
from edge_client.releases.health_window import WatchRules


def test_an_honest_request_of_every_purpose_gets_its_sum():
    def ask(aggregator: HostileAggregator):
        running = aggregator.release.release_id
        heard = [aggregator.session(aggregator.names, aggregator.task("counts"))]
        aggregator.live_one_day()
        twin = aggregator.twin(aggregator.release)
        for task in (
            aggregator.task("counts", twin),
            aggregator.task("usage"),
            aggregator.task("health", canary=running),
            aggregator.task("update"),
        ):
            heard.append(aggregator.session(aggregator.names, task))
        return heard

    for heard in attack_fleet(ask, seed=1, health_window=WatchRules()):
        assert heard.decoded is not None, heard.reason
        assert 11 <= heard.survivors <= DEVICES
