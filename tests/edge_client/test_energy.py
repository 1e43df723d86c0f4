import pytest

from edge_client.power.accounting import EnergyMeter
from fedge.costs import Kind, Payer, PriceBook, Totals, load_profiles

METER = EnergyMeter(PriceBook.load_default(), load_profiles()["raspberry-pi-4"])
BUSY_CORE_W = (6.4 - 2.7) / 4
USD_PER_J = 0.1872 / 3.6e6


def test_modelled_energy_is_the_profiles_seconds_times_a_busy_cores_power():
    row = METER.inference(queries=1000, at=5.0)
    assert (row.at, row.payer, row.kind, row.unit) == (5.0, Payer.DEVICE_OWNER, Kind.DEVICE_INFERENCE, "J")
    assert row.quantity == pytest.approx(1000 * 0.000784 * BUSY_CORE_W)
    assert row.amount_usd == pytest.approx(row.quantity * USD_PER_J)
    assert METER.training(steps=100, at=0.0).quantity == pytest.approx(100 * 0.00264 * BUSY_CORE_W)


def test_measured_seconds_take_the_place_of_the_profiles():
    assert METER.inference(queries=1000, at=0.0, seconds=2.0).quantity == pytest.approx(2 * BUSY_CORE_W)
    row = METER.training(steps=5, at=0.0, seconds=2.0)
    assert (row.kind, row.quantity) == (Kind.DEVICE_TRAINING, pytest.approx(2 * BUSY_CORE_W))


def test_bytes_are_charged_by_purpose_and_once_on_the_devices_line():
    totals = Totals.of(
        METER.transfer({Kind.UPLINK_QUERIES: 1000, Kind.DOWNLINK_ANSWERS: 200, Kind.DOWNLINK_RELEASES: 10**9}, at=0.0)
    )
    assert totals.quantity(Kind.DEVICE_LINE) == 1000 + 200 + 10**9
    assert totals.quantity(Kind.DEVICE_RADIO) == pytest.approx(1000 * 1.9e-6 + (200 + 10**9) * 4.2e-7)
    assert totals.amount_usd(kind=Kind.DOWNLINK_RELEASES) == pytest.approx(0.09)
    assert totals.quantity(Kind.UPLINK_QUERIES) == 1000


def test_what_central_was_paid_stands_under_its_kind_at_its_price():
    totals = Totals.of(
        METER.paid({(Kind.ESCALATIONS, 0.001): 3, (Kind.ESCALATIONS, 0.01): 1, (Kind.PROBES, 0.001): 2}, at=0.0)
    )
    assert totals.amount_usd(kind=Kind.ESCALATIONS) == pytest.approx(0.013)
    assert totals.amount_usd(kind=Kind.PROBES) == pytest.approx(0.002)
    assert totals.quantity(Kind.CENTRAL_ENERGY) == pytest.approx(6 * 0.24 * 3600)
    assert totals.amount_usd(kind=Kind.CENTRAL_ENERGY) == 0
