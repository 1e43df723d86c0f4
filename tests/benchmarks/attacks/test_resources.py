"""One member alone can neither keep others from an answer nor fill the gateway's memory: real servers, real mutual TLS."""

from benchmarks.attacks.resources import fill_gateway, starve_central


def test_others_are_answered_while_one_member_floods_central():
    result = starve_central(seed=1)
    assert (result.held, result.value) == (True, 0.0)


def test_the_gateways_peak_memory_is_bounded_whatever_one_member_sends():
    result = fill_gateway(seed=1)
    assert result.held, f"{result.value} {result.unit}"
