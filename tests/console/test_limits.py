"""How often a login may be tried, on a clock that the test moves."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.console.auth.rate_limit import ACCOUNT, ADDRESS, FORGET_AFTER_S, MAX_KEYS, BackOff, LoginLimiter


class Ticks:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def limiter(ticks: Ticks) -> LoginLimiter:
    return LoginLimiter(ticks)


def test_the_wait_doubles_from_a_second_to_the_longest() -> None:
    limit = BackOff(free=3, longest_s=60.0)
    assert [limit.wait_s(failures) for failures in range(11)] == [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert limit.wait_s(10**9) == 60.0


def test_an_account_waits_longer_after_each_failure_and_only_then(limiter: LoginLimiter, ticks: Ticks) -> None:
    waited = []
    for number in range(12):
        wait = limiter.try_again_in_s("ada", f"192.0.2.{number}")
        waited.append(wait)
        if wait:
            ticks.now += wait - 0.01
            assert limiter.try_again_in_s("ada", f"192.0.2.{number}") == pytest.approx(0.01)
            ticks.now += 0.01
            assert limiter.try_again_in_s("ada", f"192.0.2.{number}") == 0.0
    assert waited == [0] * 5 + [1, 2, 4, 8, 16, 32, 60]
    assert limiter.try_again_in_s("bob", "192.0.2.99") == 0.0


def test_a_try_that_has_to_wait_does_not_lengthen_the_wait(limiter: LoginLimiter, ticks: Ticks) -> None:
    for _ in range(ACCOUNT.free):
        limiter.try_again_in_s("ada", "192.0.2.1")
    assert {limiter.try_again_in_s("ada", "192.0.2.1") for _ in range(50)} == {1.0}


def test_an_address_that_tries_many_names_waits(limiter: LoginLimiter, ticks: Ticks) -> None:
    waits = [limiter.try_again_in_s(f"name-{number}", "192.0.2.1") for number in range(ADDRESS.free + 1)]
    assert waits == [0.0] * ADDRESS.free + [1.0]
    assert limiter.try_again_in_s("fresh", "192.0.2.2") == 0.0


def test_an_ipv6_network_counts_as_one_address(limiter: LoginLimiter) -> None:
    waits = [limiter.try_again_in_s(f"name-{number}", f"2001:db8:1:2::{number:x}") for number in range(ADDRESS.free + 1)]
    assert waits[-1] == 1.0
    assert limiter.try_again_in_s("fresh", "2001:db8:1:3::1") == 0.0


def test_success_starts_an_account_afresh_and_is_not_charged_to_the_address(limiter: LoginLimiter) -> None:
    for _ in range(200):
        for _ in range(ACCOUNT.free - 1):
            assert limiter.try_again_in_s("ada", "192.0.2.1") == 0.0
            limiter.succeeded("ada", "192.0.2.1")
    assert limiter.try_again_in_s("ada", "192.0.2.1") == 0.0


def test_one_accounts_success_does_not_wash_an_address_clean(limiter: LoginLimiter) -> None:
    for number in range(ADDRESS.free):
        assert limiter.try_again_in_s(f"name-{number}", "192.0.2.1") == 0.0
    assert limiter.try_again_in_s("mine", "192.0.2.1") == 1.0


def test_many_tries_at_once_do_not_pass_together(limiter: LoginLimiter) -> None:
    with ThreadPoolExecutor(16) as pool:
        heard = list(pool.map(lambda n: limiter.try_again_in_s("ada", f"192.0.2.{n}") == 0.0, range(64)))
    assert sum(heard) == ACCOUNT.free


def test_failures_are_forgotten_after_an_hour(limiter: LoginLimiter, ticks: Ticks) -> None:
    for _ in range(ACCOUNT.free):
        limiter.try_again_in_s("ada", "192.0.2.1")
    ticks.now += FORGET_AFTER_S + 1
    assert [limiter.try_again_in_s("ada", "192.0.2.1") for _ in range(ACCOUNT.free)] == [0.0] * ACCOUNT.free


def test_what_is_remembered_is_bounded(limiter: LoginLimiter) -> None:
    for number in range(MAX_KEYS):
        limiter.try_again_in_s(f"name-{number}", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(limiter._counts) == MAX_KEYS


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60))
def test_no_pace_of_guessing_gets_more_than_the_limit(pauses: list[float]) -> None:
    ticks = Ticks()
    limiter, heard, began = LoginLimiter(ticks), 0, ticks.now
    for pause in pauses:
        heard += limiter.try_again_in_s("ada", "192.0.2.1") == 0.0
        ticks.now += pause
    least = sum(ACCOUNT.wait_s(failures) for failures in range(heard))
    assert ticks.now - began >= least - 1e-6
