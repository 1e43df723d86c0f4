"""The accounts in closed form: what each thing costs, the loss of an idle board, and break-even."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.costs import (
    Kind,
    Payer,
    PriceBook,
    Totals,
    all_cloud_usd,
    break_even_round,
    charge_central,
    charge_compute,
    charge_inference,
    charge_line,
    charge_standing,
    charge_training,
    charge_transfer,
    charge_upstream,
    load_profiles,
    loaded_usd,
    marginal_usd,
    queries_per_day_to_break_even,
    queries_per_day_to_match_idle,
    usd_per_1k,
)
from fedge.costs.ledger import DOWNLINK, UPLINK
from fedge.errors import InputError

BOOK = PriceBook.load_default()
PI = load_profiles()["raspberry-pi-4"]
KWH = 0.1872 / 3.6e6  # USD a joule
TWO_DOLLARS = replace(BOOK.figures["server_egress_usd_per_gb"], value=2.0)
METERED = replace(BOOK, figures=dict(BOOK.figures) | {"device_network_usd_per_gb": TWO_DOLLARS})


def test_the_device_pays_for_its_electricity():
    row = charge_inference(BOOK, PI, queries=10_000, at=1.0)
    assert (row.payer, row.kind, row.unit, row.at) == (Payer.DEVICE_OWNER, Kind.DEVICE_INFERENCE, "J", 1.0)
    assert row.quantity == pytest.approx(7.252)
    assert row.amount_usd == pytest.approx(7.252 * KWH)
    row = charge_training(BOOK, PI, steps=100, at=1.0)
    assert (row.kind, row.amount_usd) == (Kind.DEVICE_TRAINING, pytest.approx(100 * 0.00264 * 0.925 * KWH))


def test_bytes_cost_the_device_radio_and_line_and_the_operator_by_purpose():
    radio, line = charge_line(METERED, PI, bytes_up=10**6, bytes_down=2 * 10**6, at=0)
    assert (radio.kind, radio.quantity) == (Kind.DEVICE_RADIO, pytest.approx(1.9 + 0.84))
    assert radio.amount_usd == pytest.approx(2.74 * KWH)
    assert (line.kind, line.quantity, line.amount_usd) == (Kind.DEVICE_LINE, 3 * 10**6, pytest.approx(0.006))
    assert {radio.payer, line.payer} == {Payer.DEVICE_OWNER}
    for kind in UPLINK:
        assert charge_transfer(BOOK, kind, size_bytes=10**9, at=0).amount_usd == 0
    for kind in DOWNLINK:
        row = charge_transfer(BOOK, kind, size_bytes=10**9, at=0)
        assert (row.payer, row.kind, row.amount_usd) == (Payer.OPERATOR, kind, pytest.approx(0.09))
    with pytest.raises(InputError, match="probes"):
        charge_transfer(BOOK, Kind.PROBES, size_bytes=1, at=0)


def test_central_answers_cost_their_list_price_and_their_energy_is_noted_once():
    escalations, probes, energy = charge_central(BOOK, escalations=1000, probes=100, at=0)
    assert (escalations.kind, escalations.amount_usd) == (Kind.ESCALATIONS, pytest.approx(0.75))
    assert (probes.kind, probes.amount_usd) == (Kind.PROBES, pytest.approx(0.075))
    assert (energy.kind, energy.quantity, energy.amount_usd) == (Kind.CENTRAL_ENERGY, pytest.approx(1100 * 864), 0)
    assert {row.payer for row in (escalations, probes, energy)} == {Payer.OPERATOR}


def test_upstream_tokens_cost_what_the_book_says_of_that_model():
    tokens_in, tokens_out = charge_upstream(BOOK, model="frontier", tokens_in=700_000, tokens_out=10_000, at=0)
    assert (tokens_in.kind, tokens_in.amount_usd) == (Kind.UPSTREAM_TOKENS_IN, pytest.approx(3.5))
    assert (tokens_out.kind, tokens_out.amount_usd) == (Kind.UPSTREAM_TOKENS_OUT, pytest.approx(0.3))
    call_usd = BOOK.with_model("frontier").central_price_usd
    assert tokens_in.amount_usd + tokens_out.amount_usd == pytest.approx(1000 * call_usd)
    with pytest.raises(InputError, match="giant"):
        charge_upstream(BOOK, model="giant", tokens_in=1, tokens_out=1, at=0)


def test_server_cores_cost_by_the_hour():
    row = charge_compute(BOOK, core_s=7200, at=0)
    assert (row.kind, row.payer, row.amount_usd) == (Kind.CENTRAL_COMPUTE, Payer.OPERATOR, pytest.approx(0.08096))


def test_a_raspberry_pi_4_always_on_costs_about_four_dollars_forty_a_year():
    idle, hardware = charge_standing(BOOK, PI, seconds=365.25 * 86_400, at=0)
    assert (idle.kind, idle.amount_usd) == (Kind.DEVICE_IDLE, pytest.approx(2.7 * 8.766 * 0.1872))
    assert 4.4 < idle.amount_usd < 4.45
    assert (hardware.kind, hardware.amount_usd) == (Kind.DEVICE_HARDWARE, pytest.approx(11.0))


def test_marginal_leaves_out_what_stands_there_and_loaded_takes_it_in():
    central = Totals.of(charge_central(BOOK, escalations=1000, probes=0, at=0))
    standing = Totals.of(charge_standing(BOOK, PI, seconds=86_400, at=0))
    assert marginal_usd(central + standing) == pytest.approx(0.75)
    assert loaded_usd(central + standing) == pytest.approx(0.75 + standing.amount_usd())
    assert marginal_usd(standing) == 0
    assert marginal_usd(Totals()) == loaded_usd(Totals()) == 0


def test_all_cloud_is_every_query_at_list_price_and_its_bytes():
    assert all_cloud_usd(1000, BOOK) == pytest.approx(0.75)
    assert all_cloud_usd(0, BOOK, bytes_up=10**9, bytes_down=10**9) == pytest.approx(0.09)
    assert all_cloud_usd(0, METERED, bytes_up=10**9, bytes_down=10**9) == pytest.approx(4.09)


def test_270_queries_a_day_match_the_idle_energy_of_a_raspberry_pi_4():
    """2.7 W for a day is 64.8 Wh; a cloud query takes 0.24 Wh."""
    assert queries_per_day_to_match_idle(BOOK, PI) == pytest.approx(270)


def test_a_raspberry_pi_powered_only_for_this_loses_money_below_its_break_even_and_earns_above():
    """Loaded against all-cloud with no fallback at all, at one query less and one more than the closed form says."""
    per_day = queries_per_day_to_break_even(BOOK, PI, fallback_rate=0.0)
    closed = (2.7 * 86_400 * KWH + 11.0 / 365.25) / (0.00075 - 0.0007252 * KWH)
    assert per_day == pytest.approx(closed)
    assert 56 < per_day < 57
    for queries, loses in ((56, True), (57, False)):
        answered = charge_inference(BOOK, PI, queries=queries, at=0)
        day = Totals.of([*charge_standing(BOOK, PI, seconds=86_400, at=0), answered])
        assert (loaded_usd(day) > all_cloud_usd(queries, BOOK)) is loses
        assert marginal_usd(day) < all_cloud_usd(queries, BOOK)


def test_with_the_cheapest_model_the_same_board_needs_about_280_queries_a_day():
    assert 275 < queries_per_day_to_break_even(BOOK.with_model("nano"), PI, fallback_rate=0.0) < 280


def test_where_everything_falls_back_nothing_ever_breaks_even():
    assert queries_per_day_to_break_even(BOOK, PI, fallback_rate=1.0) is None
    half = queries_per_day_to_break_even(BOOK, PI, fallback_rate=0.5)
    assert half == pytest.approx(2 * queries_per_day_to_break_even(BOOK, PI, fallback_rate=0.0), rel=1e-6)
    for rate in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="fallback_rate"):
            queries_per_day_to_break_even(BOOK, PI, fallback_rate=rate)


def test_usd_per_1k_of_no_queries_is_unknown():
    assert usd_per_1k(0.75, 1000) == 0.75
    assert usd_per_1k(3.0, 500) == 6.0
    assert usd_per_1k(0.0, 0) is None


@pytest.mark.parametrize(
    ("cost", "cloud", "round_"),
    [
        ([2, 3, 3.5, 4], [1, 2, 3.5, 5], 3),
        ([2, 3, 4], [1, 2, 3], None),
        ([1, 5, 5], [2, 4, 6], 3),  # ahead, behind, ahead again: only the last counts
        ([1, 1], [2, 1], 1),
        ([2, 1], [1, 0.5], None),
        ([0, 0, 1], [0, 0, 1], 3),  # no query yet is no victory
        ([], [], None),
    ],
)
def test_break_even_is_the_round_from_which_it_stays_ahead(cost, cloud, round_):
    assert break_even_round(cost, cloud) == round_


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=1))
def test_break_even_holds_from_its_round_on_and_not_before(pairs):
    cost, cloud = zip(*pairs, strict=True)
    found = break_even_round(cost, cloud)
    start = len(pairs) + 1 if found is None else found
    assert all(a <= b for a, b in pairs[start - 1 :])
    assert start == 1 or pairs[start - 2][0] > pairs[start - 2][1]


def test_series_of_different_length_are_refused():
    with pytest.raises(InputError, match="rounds"):
        break_even_round([1, 2], [1])


def test_a_learning_fleet_pays_first_and_breaks_even_later():
    """10,000 queries a round. Training, probes and secure aggregation come on top while everything escalates; then 60 %
    stays.
    """
    cumulative, cloud, totals = [], [], Totals()
    for round_ in range(1, 6):
        local = 0 if round_ <= 2 else 6_000
        totals += Totals.of(
            [
                *charge_central(BOOK, escalations=10_000 - local, probes=1_000 if local else 0, at=round_),
                charge_inference(BOOK, PI, queries=10_000, at=round_),
                charge_training(BOOK, PI, steps=32 * 50, at=round_),
                *charge_line(BOOK, PI, bytes_up=32 * 2_000_000, bytes_down=32 * 1_000_000, at=round_),
                charge_transfer(BOOK, Kind.UPLINK_SECAGG, size_bytes=32 * 2_000_000, at=round_),
                charge_transfer(BOOK, Kind.DOWNLINK_RELEASES, size_bytes=32 * 1_000_000, at=round_),
                charge_compute(BOOK, core_s=60, at=round_),
            ]
        )
        cumulative.append(marginal_usd(totals))
        cloud.append(all_cloud_usd(10_000 * round_, BOOK))
    assert cumulative[0] > cloud[0]
    assert cumulative[1] > cloud[1]
    assert break_even_round(cumulative, cloud) == 3
    assert totals.quantity(Kind.PROBES) == 3_000
