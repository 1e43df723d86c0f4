"""The device's own work in secure aggregation has a row of its own, in closed form."""

import pytest

from fedge.costs import Kind, Payer, PriceBook, Totals, charge_secagg, load_profiles


def test_a_session_on_a_raspberry_pi_4_costs_eight_times_the_measured_seconds() -> None:
    profile, book = load_profiles()["raspberry-pi-4"], PriceBook.load_default()
    joules = 0.044 * 8 * (profile.value("load_w") - profile.value("idle_w")) / 4
    row = charge_secagg(book, profile, sessions=3, at=5.0)
    assert row.kind is Kind.DEVICE_SECAGG and row.payer is Payer.DEVICE_OWNER and row.unit == "J"
    assert row.quantity == pytest.approx(3 * joules)
    assert row.amount_usd == pytest.approx(3 * joules * book.device_electricity_usd_per_j)


def test_totals_become_rows_that_sum_to_them() -> None:
    profile, book = load_profiles()["raspberry-pi-4"], PriceBook.load_default()
    totals = Totals.of([charge_secagg(book, profile, sessions=1, at=1.0), charge_secagg(book, profile, sessions=2, at=2.0)])
    (row,) = totals.entries(at=9.0)
    assert row.at == 9.0 and row.price_usd == pytest.approx(book.device_electricity_usd_per_j)
    assert Totals.of([row]).sums == totals.sums
