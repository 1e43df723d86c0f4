import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.secagg import masks

KEYS = [bytes([i]) * 32 for i in range(1, 6)]


def stream(key, size, dtype):
    return np.frombuffer(masks.key_stream(key, size * np.dtype(dtype).itemsize), dtype=dtype)


@given(
    size=st.integers(1, 300),
    dtype=st.sampled_from(["<u2", "<u4"]),
    chunk=st.sampled_from([4, 64, 100, 256 * 1024]),
    added=st.lists(st.sampled_from(KEYS), max_size=3),
    subtracted=st.lists(st.sampled_from(KEYS), max_size=3),
)
def test_masks_are_whole_streams_whatever_the_chunk(size, dtype, chunk, added, subtracted):
    vector = np.arange(size).astype(dtype)
    expected = vector.copy()
    for key in added:
        expected += stream(key, size, dtype)
    for key in subtracted:
        expected -= stream(key, size, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "CHUNK_BYTES", chunk)
        masks.apply_masks(vector, added=added, subtracted=subtracted)
    np.testing.assert_array_equal(vector, expected)


@pytest.mark.parametrize("extra", [-1, 0, 1, 65_536])
def test_vectors_around_the_real_chunk_size(extra):
    assert masks.CHUNK_BYTES == 256 * 1024
    size = masks.CHUNK_BYTES // 4 + extra
    vector = np.zeros(size, dtype="<u4")
    masks.apply_masks(vector, added=KEYS[:1], subtracted=[])
    np.testing.assert_array_equal(vector, stream(KEYS[0], size, "<u4"))
    masks.apply_masks(vector, added=[], subtracted=KEYS[:1])
    assert not vector.any()


def test_a_stream_is_as_long_as_asked_and_begins_alike():
    assert masks.key_stream(KEYS[0], 0) == b""
    assert masks.key_stream(KEYS[0], 100)[:10] == masks.key_stream(KEYS[0], 10)
    assert len(masks.key_stream(KEYS[0], 100)) == 100


@given(
    size=st.integers(1, 200),
    dtype=st.sampled_from(["<u2", "<u4"]),
    chunk=st.sampled_from([64, 128]),
    threads=st.integers(2, 5),
)
def test_threads_take_ranges_and_change_nothing(size, dtype, chunk, threads):
    alone, together = np.arange(size).astype(dtype), np.arange(size).astype(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "CHUNK_BYTES", chunk)
        masks.apply_masks(alone, added=KEYS[:2], subtracted=KEYS[2:])
        masks.apply_masks(together, added=KEYS[:2], subtracted=KEYS[2:], threads=threads)
    np.testing.assert_array_equal(together, alone)
