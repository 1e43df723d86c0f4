"""Queries as messages: every query comes back as it went, and nothing malformed comes through."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedge.errors import InputError
from fedge.wire import answer_request, is_loopback, query_from_proto, query_to_proto
from protos.fedge.central.v1.central_pb2 import PURPOSE_PROBE, Query

_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(_TEXT)
def test_text_comes_back_as_it_went(text):
    parsed = Query.FromString(query_to_proto(text).SerializeToString())
    assert query_from_proto(parsed) == text


@given(arrays(np.float32, st.integers(1, 64), elements=st.floats(0, 1, width=32)))
def test_pixels_come_back_bit_by_bit(pixels):
    back = query_from_proto(query_to_proto(pixels))
    assert isinstance(back, np.ndarray)
    assert back.dtype == np.float32
    assert back.tobytes() == pixels.tobytes()


def test_pixels_travel_as_little_endian_float32():
    assert query_to_proto(np.array([1.0, 0.5], dtype=np.float32)).pixels == bytes.fromhex("0000803f0000003f")


@pytest.mark.parametrize(
    "message",
    [
        Query(),
        Query(text=""),
        Query(text="\t "),
        Query(pixels=b""),
        Query(pixels=b"abcde"),
        Query(pixels=np.array([np.inf], "<f4").tobytes()),
        Query(pixels=np.array([-0.1], "<f4").tobytes()),
    ],
)
def test_a_malformed_query_is_refused(message):
    with pytest.raises(InputError):
        query_from_proto(message)


@pytest.mark.parametrize(
    "query", ["\ud800", np.zeros((2, 2), np.float32), np.zeros(0, np.float32), np.array([2.0], np.float32)]
)
def test_what_cannot_be_a_query_is_not_sent(query):
    with pytest.raises(InputError):
        query_to_proto(query)


def test_a_request_says_what_it_was_given():
    request = answer_request(idempotency_key="k", device_id="d", query="q", release_id="r", purpose=PURPOSE_PROBE)
    assert (request.idempotency_key, request.device_id, request.query.text) == ("k", "d", "q")
    assert (request.release_id, request.purpose) == ("r", PURPOSE_PROBE)
    with pytest.raises(InputError, match="idempotency_key"):
        answer_request(idempotency_key="", device_id="d", query="q", release_id="", purpose=PURPOSE_PROBE)


@pytest.mark.parametrize(
    ("address", "stays"),
    [
        ("127.0.0.1:0", True),
        ("127.8.9.10:50051", True),
        ("[::1]:50051", True),
        ("localhost:50051", True),
        ("unix:/run/central.sock", True),
        ("0.0.0.0:50051", False),
        ("[::]:50051", False),
        ("10.0.0.7:50051", False),
        ("localhost.example.org:50051", False),
        ("127.0.0.1.example.org:50051", False),
        ("50051", False),
        ("", False),
    ],
)
def test_only_addresses_that_cannot_leave_the_machine_are_loopback(address, stays):
    assert is_loopback(address) is stays
