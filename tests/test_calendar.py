import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.calendar import DAILY, DAY_S, LONGEST_S, SHORTEST_S, Calendar
from fedge.errors import InputError


def test_a_period_holds_the_times_from_its_start_to_the_next_ones():
    assert DAILY.period_at(20 * DAY_S) == DAILY.period_at(21 * DAY_S - 0.001) == 20
    assert DAILY.start_of(20) == 20 * DAY_S


@given(st.floats(SHORTEST_S, LONGEST_S), st.floats(0, 4e9))
def test_every_time_lies_in_the_period_that_is_given_for_it(period_s, now):
    calendar = Calendar(period_s)
    period = calendar.period_at(now)
    assert calendar.start_of(period) <= now * (1 + 1e-12) and now < calendar.start_of(period + 1) * (1 + 1e-12)


@pytest.mark.parametrize("period_s", [0.0, -1.0, float("nan"), float("inf"), LONGEST_S + 1])
def test_a_length_that_cannot_be_is_refused(period_s):
    with pytest.raises(InputError, match="choose 1 to 2"):
        Calendar(period_s)
