"""What the traffic of a device promises: a pure function of seed, device and count, and no query comes twice too early."""

from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.workbench.workloads import QueryStream
from aggregator.workbench.workloads.stream import shift_pixels, shift_text
from fedge.errors import InputError
from fedge.randomness import generator, root_seed

SEED = root_seed(3)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.fixture(scope="module")
def stream(text_workload):
    return QueryStream(text_workload([0] * 30, oos=8, oos_share=0.25), np.arange(10), SEED, 4)


@given(st.lists(st.integers(1, 25), min_size=1, max_size=6))
def test_traffic_is_the_same_however_it_is_cut_into_pieces(stream, pieces):
    edges = np.cumsum([0, *pieces]).tolist()
    cut = chain.from_iterable(stream.slice(start, stop) for start, stop in pairwise(edges))
    assert list(cut) == stream.slice(0, edges[-1])


def test_a_resumed_run_goes_on_as_an_unbroken_one(stream):
    unbroken = [stream.round(number, queries=7) for number in range(9)]
    assert stream.round(5, queries=7) == unbroken[5]
    assert [drawn for drawn_round in unbroken for drawn in drawn_round] == stream.slice(0, 63)


def test_own_queries_come_once_each_as_they_are_and_then_again_with_changes(text_workload):
    workload = text_workload([0] * 30)
    indices = np.array([3, 5, 8, 13, 21])
    drawn = QueryStream(workload, indices, SEED, 0).slice(0, 15)
    for number in range(3):
        assert sorted(query.source for query in drawn[5 * number : 5 * number + 5]) == indices.tolist()
    assert all(query.query == workload.devices.query(query.source) and not query.redrawn for query in drawn[:5])
    assert all(query.redrawn for query in drawn[5:])
    assert any(query.query != workload.devices.query(query.source) for query in drawn[5:])


def test_out_of_scope_queries_come_at_the_natural_share_with_their_own_label(stream):
    drawn = stream.slice(0, 4000)
    strange = [query for query in drawn if query.label == 1]
    # 1,000 on average, standard deviation 27.
    assert 840 < len(strange) < 1160
    assert {query.source for query in strange} == set(range(30, 38))
    assert {query.source for query in drawn if query.label == 0} == set(range(10))


def test_devices_and_seeds_differ(text_workload):
    workload = text_workload([0] * 50)
    base = [query.source for query in QueryStream(workload, np.arange(50), SEED, 0).slice(0, 20)]
    assert base != [query.source for query in QueryStream(workload, np.arange(50), SEED, 1).slice(0, 20)]
    assert base != [query.source for query in QueryStream(workload, np.arange(50), root_seed(4), 0).slice(0, 20)]


def test_a_device_without_queries_is_refused(text_workload):
    with pytest.raises(InputError, match="no queries of its own"):
        QueryStream(text_workload([0]), np.array([], dtype=np.int64), SEED, 0)


@given(texts, st.integers(0, 10_000))
def test_a_shifted_text_differs_by_little(text, seed):
    words = text.split()
    shifted = shift_text(text, generator(root_seed(seed), "shift")).split()
    # A lead of up to four words is the longest addition; at most one word is dropped.
    assert len(words) - 1 <= len(shifted) <= len(words) + 4
    assert len(set(words) - set(shifted)) <= 1


def test_most_shifts_change_the_text():
    text = "please turn on the light"
    shifted = [shift_text(text, generator(SEED, "shift", number)) for number in range(200)]
    assert len(set(shifted)) > 40
    assert sum(other != text for other in shifted) > 190


@given(st.integers(0, 10_000))
def test_shifted_pixels_stay_pixels_and_stay_close(seed):
    draw = generator(root_seed(seed), "shift")
    pixels = np.clip(draw.random(64), 0, 1).astype(np.float32)
    shifted = shift_pixels(pixels, draw)
    assert shifted.shape == (64,) and shifted.dtype == np.float32
    assert shifted.min() >= 0.0 and shifted.max() <= 1.0
    assert not np.array_equal(shifted, pixels)
    # Two fifths of the way to a neighbour, a tenth more or less pressure and the noise bound the change of any pixel.
    assert abs(shifted - pixels).max() < 0.4 + 0.1 + 6 * 0.02
