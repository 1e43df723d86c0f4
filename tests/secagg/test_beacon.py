"""What deals devices into cohorts: fixed before anybody knows it, moved by every survivor, checked by anybody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.secagg import MessageError
from fedge.secagg.beacon import GENESIS, Draw, advance, check_seeds, contribution, order_members
from fedge.secagg.wire import sha256

NAMES = tuple(f"device-{number}" for number in range(30))


def draw(**changes: object) -> Draw:
    values = {"beacon": GENESIS, "period": 3, "purpose": "update", "members": NAMES, "sizes": (15, 15), **changes}
    return Draw(**values)


def test_every_survivors_seed_moves_the_beacon() -> None:
    seeds = [bytes([number]) * 32 for number in range(5)]
    before = contribution(b"s" * 32, seeds)
    for number in range(5):
        changed = [*seeds[:number], b"\xff" * 32, *seeds[number + 1 :]]
        assert contribution(b"s" * 32, changed) != before
    assert contribution(b"t" * 32, seeds) != before


def test_a_period_without_a_sum_leaves_the_beacon_and_the_order_of_sums_does_not_matter() -> None:
    assert advance(GENESIS, 1, []) == GENESIS
    assert advance(GENESIS, 1, [b"a" * 32, b"b" * 32]) == advance(GENESIS, 1, [b"b" * 32, b"a" * 32]) != GENESIS


def test_seeds_are_held_against_what_the_bundles_committed_to() -> None:
    seeds = [b"a" * 32, b"b" * 32]
    check_seeds(seeds, [sha256(seed) for seed in seeds])
    for wrong in ([b"a" * 32], [b"a" * 32, b"c" * 32], [b"b" * 32, b"a" * 32]):
        with pytest.raises(MessageError, match="committed"):
            check_seeds(wrong, [sha256(seed) for seed in seeds])


@given(st.sets(st.sampled_from(NAMES), min_size=2), st.integers(0, 1000))
def test_a_members_place_depends_on_nobody_else(present: set[str], period: int) -> None:
    everyone = order_members(GENESIS, NAMES, period=period, purpose="update")
    assert order_members(GENESIS, present, period=period, purpose="update") == tuple(n for n in everyone if n in present)


def test_a_device_accepts_its_cohort_and_what_dropouts_left_of_it() -> None:
    mine = draw().cohorts()[0]
    draw().check_roster(mine, own=mine[0])
    draw().check_roster(mine[:12], own=mine[0])


def test_a_device_notices_who_was_moved_to_it() -> None:
    mine, other = draw().cohorts()
    with pytest.raises(MessageError, match=f"{other[0]} sat beside {mine[0]}"):
        draw().check_roster((*mine[:14], other[0]), own=mine[0])
    with pytest.raises(MessageError, match="no cohort"):
        draw(sizes=(10, 10)).check_roster(mine, own=order_members(GENESIS, NAMES, period=3, purpose="update")[-1])


def test_pairs_sit_together_as_often_as_chance_says() -> None:
    together = sum(
        any({"device-0", "device-1"} <= set(cohort) for cohort in draw(period=period).cohorts()) for period in range(2000)
    )
    assert abs(together / 2000 - 14 / 29) < 0.05
