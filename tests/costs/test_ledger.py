"""Rows and totals: they add up, name their unit and survive being stored."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.costs import Kind, LedgerEntry, Payer, Totals, entry
from fedge.costs.ledger import DOWNLINK, STANDING, UNITS, UPLINK
from fedge.errors import InputError

rows = st.builds(
    lambda kind, payer, quantity, price: entry(kind, quantity, price, at=0.0, payer=payer),
    st.sampled_from(list(Kind)),
    st.sampled_from(list(Payer)),
    st.integers(0, 10**6),
    st.integers(0, 1000).map(lambda n: n / 1024),  # dyadic: sums are exact in any order
)


def test_a_row_multiplies_quantity_and_price():
    row = entry(Kind.PROBES, 200, 0.00075, at=12.5, payer=Payer.OPERATOR)
    assert row == LedgerEntry(12.5, Payer.OPERATOR, Kind.PROBES, 200, "query", 0.00075, pytest.approx(0.15))


@pytest.mark.parametrize(("quantity", "price"), [(-1, 1.0), (1, -1.0), (math.nan, 1.0), (1, math.nan)])
def test_rows_below_zero_are_refused(quantity, price):
    with pytest.raises(InputError, match="below 0"):
        entry(Kind.PROBES, quantity, price, at=0.0, payer=Payer.OPERATOR)


def test_every_kind_has_one_unit_and_bytes_are_bytes():
    assert set(UNITS) == set(Kind)
    assert {UNITS[kind] for kind in UPLINK | DOWNLINK} == {"B"}
    assert not UPLINK & DOWNLINK
    assert {kind.value for kind in STANDING} == {"device_idle", "device_hardware"}


@given(st.lists(rows), st.lists(rows), st.lists(rows))
def test_totals_add_up_like_their_rows(a, b, c):
    whole = Totals.of([*a, *b, *c])
    assert Totals.of(a) + Totals.of(b) + Totals.of(c) == whole
    assert Totals.of(c) + (Totals.of(b) + Totals.of(a)) == whole
    assert whole + Totals() == whole


@given(st.lists(rows))
def test_no_cent_is_lost_between_the_views(many):
    totals = Totals.of(many)
    amount = sum(row.amount_usd for row in many)
    assert totals.amount_usd() == amount
    assert sum(totals.usd_by_kind().values()) == amount
    assert sum(totals.usd_by_payer().values()) == amount
    assert set(totals.usd_by_kind()) == {row.kind.value for row in many}
    for kind in Kind:
        assert totals.quantity(kind) == sum(row.quantity for row in many if row.kind is kind)
        for payer in Payer:
            expected = sum(row.amount_usd for row in many if (row.kind, row.payer) == (kind, payer))
            assert totals.amount_usd(kind=kind, payer=payer) == expected


@given(st.lists(rows))
def test_totals_survive_being_stored_as_json(many):
    totals = Totals.of(many)
    stored = json.dumps(totals.to_rows())
    assert Totals.from_rows(json.loads(stored)) == totals
    assert stored == json.dumps(Totals.of(reversed(many)).to_rows())


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"payer": "nobody", "kind": "probes", "quantity": 1, "amount_usd": 1},
        {"payer": "operator", "kind": "probes", "quantity": "x", "amount_usd": 1},
        {"payer": "operator", "kind": "probes", "quantity": 10**400, "amount_usd": 1},
        3,
    ],
)
def test_stored_rows_that_cannot_be_are_refused(row):
    with pytest.raises(InputError, match="totals"):
        Totals.from_rows([row])


def test_quantities_of_different_units_do_not_mix():
    queries = entry(Kind.UPLINK_QUERIES, 5, 0, at=0, payer=Payer.OPERATOR)
    totals = Totals.of([queries, entry(Kind.UPLINK_UPDATES, 7, 0, at=0, payer=Payer.OPERATOR)])
    assert totals.quantity(*UPLINK) == 12
    assert totals.quantity() == 0
    with pytest.raises(InputError, match="units"):
        totals.quantity(Kind.UPLINK_QUERIES, Kind.PROBES)


def test_totals_do_not_change_once_made():
    totals = Totals.of([entry(Kind.PROBES, 1, 1, at=0, payer=Payer.OPERATOR)])
    assert totals + totals != totals
    assert totals.amount_usd() == 1
    with pytest.raises(TypeError):
        totals.sums[Payer.OPERATOR, Kind.PROBES] = (0.0, 0.0)
