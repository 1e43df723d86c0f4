"""What a content hash promises: equal content, equal hash, today and in later versions."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.errors import InputError
from fedge.features import content_hash, normalized_text

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(texts, st.integers(1, 3))
def test_a_hash_ignores_case_and_spacing_only(text, spaces):
    spread = (" " * spaces).join(text.split())
    assert content_hash(text) == content_hash(f"\t{spread} ")
    assert content_hash(text) == content_hash(normalized_text(text))
    assert content_hash(text) != content_hash(text + "x")
    assert len(content_hash(text)) == 32


def test_hashes_stay_what_they_are_between_versions():
    assert content_hash(" Turn  ON\nthe light ") == hashlib.sha256(b"text\0turn on the light").digest()
    assert content_hash(np.array([0.0, 1.0], dtype=np.float32)) == hashlib.sha256(b"pixels\0\0\0\0\0\0\0\x80\x3f").digest()


def test_equal_pixels_hash_equally_and_one_bit_more_does_not():
    pixels = np.linspace(0, 1, 64, dtype=np.float32)
    assert content_hash(pixels) == content_hash(pixels.astype(np.float64).astype(np.float32))
    assert content_hash(np.array([-0.0, 1.0], dtype=np.float32)) == content_hash(np.array([0.0, 1.0], dtype=np.float32))
    nudged = pixels.copy()
    nudged[3] = np.nextafter(nudged[3], np.float32(1.0))
    assert content_hash(nudged) != content_hash(pixels)


def test_what_has_no_content_hash_is_refused():
    for query in ("\udc80", np.zeros((2, 2), dtype=np.float32), np.array([np.nan], dtype=np.float32)):
        with pytest.raises(InputError):
            content_hash(query)


@given(texts)
def test_normalizing_twice_changes_nothing(text):
    assert normalized_text(normalized_text(text)) == normalized_text(text)
