"""The distribution that goes with upstream's label."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.central.upstream.upstream import LEAD, UNTOLD, mixed


def test_without_a_probability_the_label_gets_six_tenths_and_its_share_of_the_rest() -> None:
    result = mixed(np.array([0.5, 0.25, 0.25], np.float32), 1, None)
    assert result.tolist() == pytest.approx([0.2, 0.1 + UNTOLD, 0.1])


def test_upstreams_own_probability_is_the_weight() -> None:
    result = mixed(np.array([0.5, 0.25, 0.25], np.float32), 1, 0.9)
    assert result.tolist() == pytest.approx([0.05, 0.925, 0.025])


def test_a_label_that_upstream_is_not_sure_of_leads_by_no_more_than_it_must() -> None:
    result = mixed(np.array([1.0, 0.0], np.float32), 1, 0.0)
    assert result.tolist() == pytest.approx([(1 - LEAD) / 2, (1 + LEAD) / 2])
    assert mixed(np.array([0.1, 0.9], np.float32), 1, 0.0).tolist() == pytest.approx([0.1, 0.9])
    assert mixed(np.array([1.0], np.float32), 0, 0.0).tolist() == [1.0]


@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=200).filter(lambda row: sum(row) > 1e-3),
    st.none() | st.floats(0, 1),
    st.data(),
)
def test_it_is_a_distribution_led_by_upstreams_label(
    row: list[float], probability: float | None, data: st.DataObject
) -> None:
    strong = np.array(row, np.float32) / np.float32(sum(row))
    label = data.draw(st.integers(0, len(row) - 1))
    result = mixed(strong, label, probability)
    assert np.isfinite(result).all() and (result >= 0).all() and (result <= 1 + 1e-6).all()
    assert result.sum(dtype=np.float64) == pytest.approx(1.0, abs=1e-5)
    others = np.delete(result, label)
    assert not others.size or result[label] >= others.max() + LEAD / 2
