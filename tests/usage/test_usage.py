"""What a fleet says of itself in a secure sum: ten integers and what they cost."""

from dataclasses import asdict

import numpy as np
import pytest

from fedge.costs import Kind, Payer, PriceBook
from fedge.errors import InputError
from fedge.usage import CAP, NAMES, Usage

SOME = Usage(queries=10, local=6, degraded=1, probes=2, inference_mj=3000, idle_j=7, hardware_microusd=250)


def test_what_is_encoded_is_decoded_and_sums_add():
    assert Usage.decode(SOME.encode()) == SOME
    assert Usage.decode(SOME.encode() + SOME.encode()) == SOME + SOME
    assert (SOME + SOME) - SOME == SOME


def test_the_fallback_rate_leaves_probes_out():
    assert SOME.fallback_rate == pytest.approx(2 / 8)
    assert Usage(queries=3, probes=3).fallback_rate is None


@pytest.mark.parametrize(
    "lie", [{"queries": 1, "local": 2}, {"queries": 2, "local": 1, "probes": 2}, {"queries": 2, "local": 1, "degraded": 2}]
)
def test_counts_that_contradict_each_other_are_refused(lie):
    with pytest.raises(InputError, match="the sum names"):
        Usage.decode(Usage(**lie).encode())


def test_another_number_of_integers_is_refused():
    with pytest.raises(InputError, match="it has 10"):
        Usage.decode(np.zeros(9, np.int64))


def test_one_sum_takes_so_much_of_each_thing_and_never_less_than_nothing():
    much = Usage(**dict.fromkeys(NAMES, CAP + 5))
    assert set(asdict(much.capped()).values()) == {CAP}
    assert Usage(queries=-3).capped() == Usage()


def test_it_costs_the_devices_owners_electricity_and_hardware():
    book = PriceBook.load_default()
    rows = {row.kind: row for row in SOME.ledger(book, at=5.0)}
    assert set(rows) == {Kind.DEVICE_INFERENCE, Kind.DEVICE_IDLE, Kind.DEVICE_HARDWARE}
    assert {row.payer for row in rows.values()} == {Payer.DEVICE_OWNER} and {row.at for row in rows.values()} == {5.0}
    assert rows[Kind.DEVICE_INFERENCE].amount_usd == pytest.approx(3 * book.device_electricity_usd_per_j)
    assert rows[Kind.DEVICE_IDLE].amount_usd == pytest.approx(7 * book.device_electricity_usd_per_j)
    assert rows[Kind.DEVICE_HARDWARE].amount_usd == pytest.approx(0.00025)
