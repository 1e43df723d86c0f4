"""Central's counts of probes: durable, capped, given as totals of signed rosters alone, and never twice."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.central import TotalsClient, TotalsRefusedError, serve_totals
from aggregator.central.probe_counts import KEPT_PERIODS, AnsweredProbe
from benchmarks.attacks.totals import RELEASE, Aggregator, central, descriptor, roster_totals
from fedge.calendar import Calendar
from fedge.routing import ProbeTotals
from fedge.secagg import sign_descriptor

NOW, CALENDAR = 1_790_000_000.0, Calendar(3600.0)
ROSTER = [f"device-{number:02d}" for number in range(12)]
KEY = Ed25519PrivateKey.generate()


@pytest.fixture
def counts(tmp_path):
    return central(tmp_path, KEY, CALENDAR)


@pytest.fixture
def aggregator(counts):
    return Aggregator(KEY, counts, CALENDAR)


def probes(device: str, kinds: str, start: int = 0) -> list[AnsweredProbe]:
    """One probe a letter: a local one that agrees or disagrees, or one that is not local."""
    texts = {"a": "local right", "d": "local wrong", "n": "far right"}
    return [AnsweredProbe(device, RELEASE, f"{device} {start + i} {texts[kind]}", "right") for i, kind in enumerate(kinds)]


def feed(counts, kinds: str = "aadn", *, now: float = NOW, start: int = 0, roster=ROSTER) -> None:
    for device in roster:
        counts.count(probes(device, kinds, start), now=now)


def test_a_total_is_the_sum_over_the_roster(counts, aggregator):
    feed(counts)
    assert aggregator.ask(ROSTER, now=NOW, attempt=1) == ProbeTotals(48, 24, 12)


def test_each_device_is_given_once_a_period_and_the_same_descriptor_gets_the_same_answer(counts, aggregator):
    feed(counts)
    first = aggregator.ask(ROSTER, now=NOW, attempt=1)
    assert aggregator.ask(ROSTER, now=NOW, attempt=1) == first
    feed(counts, start=100)
    for roster in (ROSTER, ROSTER[:-1], [*ROSTER, "another"]):
        with pytest.raises(TotalsRefusedError, match="already"):
            aggregator.ask(roster, now=NOW, attempt=2)
    assert aggregator.ask(ROSTER, now=NOW + 3600, attempt=3) == first  # what came since, once


def test_more_than_the_cap_waits_for_later_periods_but_disagreements_do_not(counts, aggregator):
    feed(counts, "aaaaadd")
    assert aggregator.ask(ROSTER, now=NOW, attempt=1, cap=3) == ProbeTotals(36, 36, 24)
    assert aggregator.ask(ROSTER, now=NOW + 3600, attempt=2, cap=3) == ProbeTotals(36, 24, 0)
    assert aggregator.ask(ROSTER, now=NOW + 7200, attempt=3, cap=3) == ProbeTotals(12, 0, 0)


def test_a_repetition_counts_once(counts, aggregator):
    feed(counts)
    feed(counts)
    assert aggregator.ask(ROSTER, now=NOW, attempt=1) == ProbeTotals(48, 24, 12)


@pytest.mark.parametrize("n_min", [2, 11])
def test_too_few_devices_or_too_few_with_something_to_tell_are_refused(tmp_path, n_min):
    counts = central(tmp_path, KEY, CALENDAR, n_min=n_min)
    aggregator, least = Aggregator(KEY, counts, CALENDAR), max(n_min, 8)
    feed(counts, roster=ROSTER[: least - 1])
    with pytest.raises(TotalsRefusedError, match="too small"):
        aggregator.ask(ROSTER[: least - 1], now=NOW, attempt=1)
    with pytest.raises(TotalsRefusedError, match="tells too much"):
        aggregator.ask(ROSTER, now=NOW, attempt=1)


def test_a_demonstration_may_be_smaller(tmp_path):
    counts = central(tmp_path, KEY, CALENDAR, n_min=2, is_demo=True)
    feed(counts, roster=ROSTER[:2])
    assert Aggregator(KEY, counts, CALENDAR).ask(ROSTER[:2], now=NOW, attempt=1) == ProbeTotals(8, 4, 2)


def test_only_the_round_key_and_only_counts_of_the_present_period_are_served(counts, aggregator):
    feed(counts)
    with pytest.raises(TotalsRefusedError):
        aggregator.ask(ROSTER, now=NOW, attempt=1, key=Ed25519PrivateKey.generate())
    period = CALENDAR.period_at(NOW)
    for bad in (
        descriptor(ROSTER, period=period - 1, attempt=1, cap=8, now=NOW),
        descriptor(ROSTER, period=period + 1, attempt=1, cap=8, now=NOW),
        descriptor(ROSTER, period=period, attempt=1, cap=8, now=NOW, purpose="usage"),
        b"no descriptor",
    ):
        with pytest.raises(TotalsRefusedError):
            counts.roster_totals(bad, sign_descriptor(KEY, bad), now=NOW)


def test_counts_survive_a_restart(tmp_path, counts):
    feed(counts)
    again = central(tmp_path, KEY, CALENDAR)
    assert Aggregator(KEY, again, CALENDAR).ask(ROSTER, now=NOW, attempt=1) == ProbeTotals(48, 24, 12)
    third = central(tmp_path, KEY, CALENDAR)
    with pytest.raises(TotalsRefusedError, match="already"):
        Aggregator(KEY, third, CALENDAR).ask(ROSTER, now=NOW, attempt=2)


def test_what_nothing_happened_to_for_long_is_forgotten(counts, aggregator):
    feed(counts, roster=["old"])
    later = NOW + (KEPT_PERIODS + 2) * 3600
    feed(counts, now=later)
    aggregator.ask(ROSTER, now=later, attempt=1)
    feed(counts, now=later + 3600, start=50)
    assert aggregator.ask([*ROSTER, "old"], now=later + 3600, attempt=2) == ProbeTotals(48, 24, 12)


def test_totals_come_over_a_socket_with_the_same_checks(tmp_path, counts):
    feed(counts)
    socket = tmp_path / "totals.sock"
    data = descriptor(ROSTER, period=CALENDAR.period_at(NOW), attempt=1, cap=8, now=NOW)
    client = TotalsClient(socket)
    with pytest.raises(TotalsRefusedError):
        client.roster_totals(data, sign_descriptor(KEY, data))
    with serve_totals(counts, socket, clock=lambda: NOW):
        assert socket.stat().st_mode & 0o777 == 0o600
        with pytest.raises(TotalsRefusedError, match="does not hold"):
            client.roster_totals(data, sign_descriptor(Ed25519PrivateKey.generate(), data))
        assert client.roster_totals(data, sign_descriptor(KEY, data)) == ProbeTotals(48, 24, 12)
    assert not socket.exists()


@pytest.mark.parametrize("seed", range(5))
def test_no_choice_of_rosters_tells_one_device_s_count(seed):
    result = roster_totals(seed=seed)
    assert result.held and result.value == 0 and "refused" in result.note
    assert replace(result, held=False) != result
