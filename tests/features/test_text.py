"""What hashed n-grams promise: known ids, weights that sum to one, the same alone and in a batch, under any hash seed."""

import os
import subprocess
import sys
from itertools import pairwise
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.errors import InputError
from fedge.features import TextFeatures, features_from_mapping

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


def bucket(crc: int, buckets: int) -> int:
    return ((crc * 2654435761) % 2**32 * buckets) // 2**32 + 1


def by_definition(words: list[str], features: TextFeatures) -> list[int]:
    """The ids of plain lower-case words, written out without a cache or a continued hash."""
    hashes = [crc32(word.encode(), 1) for word in words]
    hashes += [crc32(f"{a} {b}".encode(), 1) for a, b in pairwise(words)]
    shortest, longest = features.char_ngrams
    for word in (f"<{word}>" for word in words):
        for size in range(shortest, longest + 1):
            hashes += [crc32(word[i : i + size].encode(), 2) for i in range(len(word) - size + 1)]
    return [bucket(crc, features.buckets) for crc in hashes][: features.max_tokens]


def test_ids_are_those_of_the_definition():
    features = TextFeatures()
    encoded = features.encode(["Turn ON the light"])
    assert encoded["ids"].tolist() == [by_definition(["turn", "on", "the", "light"], features)]
    # 4 words, 3 bigrams, n-grams of 3 to 5 characters: "<turn>" has 4 + 3 + 2, "<on>" 2 + 1, "<the>" 3 + 2 + 1, "<light>" 12
    assert encoded["ids"].shape == (1, 4 + 3 + 9 + 3 + 6 + 12)
    assert encoded["ids"].dtype == np.int64
    assert encoded["weights"].dtype == np.float32


def test_ids_stay_what_released_models_were_trained_on():
    released = [15835, 2798, 11799, 2343, 13961, 15390, 13302, 11948, 14311, 9714, 11142, 16193, 562, 16309, 10736]
    assert TextFeatures().encode(["turn on"])["ids"].tolist() == [released]


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_ids_do_not_depend_on_the_hash_seed_of_the_interpreter(hash_seed):
    script = "from fedge.features import *; print(TextFeatures().encode(['what is the weather'])['ids'].tolist())"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    printed = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == str(TextFeatures().encode(["what is the weather"])["ids"].tolist())


@given(st.lists(texts, min_size=1, max_size=5), st.integers(1, 200))
def test_weights_sum_to_one_and_padding_is_zero_for_any_text(queries, max_tokens):
    features = TextFeatures(buckets=64, max_tokens=max_tokens)
    encoded = features.encode(queries)
    ids, weights = encoded["ids"], encoded["weights"]
    assert ids.shape == weights.shape
    assert 1 <= ids.shape[1] <= max_tokens
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-5)
    assert ids.min() >= 0 and ids.max() <= 64
    np.testing.assert_array_equal(ids == 0, weights == 0.0)
    assert (ids > 0).sum(axis=1).max() == ids.shape[1], "a batch is as wide as its longest row"


@given(st.lists(texts, min_size=2, max_size=5))
def test_a_row_of_a_batch_is_the_query_encoded_alone(queries):
    features = TextFeatures(buckets=1000, max_tokens=50)
    batch = features.encode(queries)
    for row, query in enumerate(queries):
        alone = features.encode([query])
        width = alone["ids"].shape[1]
        np.testing.assert_array_equal(batch["ids"][row, :width], alone["ids"][0])
        np.testing.assert_array_equal(batch["weights"][row, :width], alone["weights"][0])
        assert not batch["ids"][row, width:].any()


def test_case_spacing_and_punctuation_do_not_matter_but_order_does():
    features = TextFeatures()

    def ids(text):
        return features.encode([text])["ids"].tolist()

    assert ids("  What's   the TIME?\n") == ids("what's the time")
    assert ids("cafe\u0301") == ids("caf\u00e9")
    assert ids("man bites dog") != ids("dog bites man")


def test_a_typo_leaves_most_n_grams_of_a_text_in_place():
    features = TextFeatures()
    right, wrong = (
        set(features.encode([text])["ids"][0].tolist()) for text in ("set the temperature", "set the tempertaure")
    )
    other = set(features.encode(["play some jazz"])["ids"][0].tolist())
    assert len(right & wrong) > len(right) / 2 > 5 > len(right & other)


def test_texts_without_letters_are_told_apart_and_an_empty_one_has_a_feature():
    features = TextFeatures()
    encoded = features.encode(["", "   ", "?!", "\U0001f600"])
    assert (encoded["weights"].sum(axis=1) == 1.0).all()
    first = encoded["ids"][:, 0].tolist()
    assert first[0] == first[1]
    assert len(set(first)) == 3


def test_an_endless_word_and_an_endless_text_stay_within_the_cap():
    encoded = TextFeatures(max_tokens=160).encode(["x" * 100_000, "word " * 100_000])
    assert encoded["ids"].shape == (2, 160)


def test_no_queries_give_no_rows():
    encoded = TextFeatures().encode([])
    assert encoded["ids"].shape[0] == 0
    assert encoded["weights"].shape[0] == 0


def test_without_character_n_grams_only_words_and_bigrams_count():
    assert TextFeatures(char_ngrams=(0, 0)).encode(["a b c"])["ids"].shape == (1, 5)
    assert TextFeatures(char_ngrams=(0, 0), word_ngrams=1).encode(["a b c"])["ids"].shape == (1, 3)


def test_buckets_are_used_evenly():
    words = [f"word{number}" for number in range(20_000)]
    ids = TextFeatures(buckets=64, char_ngrams=(0, 0), max_tokens=1).encode(words)["ids"].ravel()
    counts = np.bincount(ids, minlength=65)[1:]
    # 64 buckets of 312.5 on average; 6 standard deviations are 105.
    assert abs(counts - 312.5).max() < 105


@pytest.mark.parametrize("query", [3, None, np.zeros(4, dtype=np.float32), "lone \ud800 surrogate"])
def test_what_is_no_text_is_refused(query):
    with pytest.raises(InputError):
        TextFeatures().encode([query])


@pytest.mark.parametrize(
    "change",
    [
        {"buckets": 0},
        {"buckets": True},
        {"buckets": 2.0},
        {"max_tokens": 0},
        {"word_ngrams": 3},
        {"char_ngrams": [5, 3]},
        {"char_ngrams": [0, 3]},
        {"char_ngrams": [3]},
        {"char_ngrams": "35"},
        {"stemming": True},
        {"kind": "bytes"},
    ],
)
def test_a_mapping_with_a_wrong_or_unknown_value_is_refused(change):
    with pytest.raises(InputError, match="feature specification"):
        features_from_mapping({**TextFeatures().to_mapping(), **change})


def test_a_mapping_that_lacks_a_key_is_refused():
    mapping = TextFeatures().to_mapping()
    del mapping["max_tokens"]
    with pytest.raises(InputError, match="missing 'max_tokens'"):
        features_from_mapping(mapping)


@given(st.integers(1, 1 << 24), st.integers(1, 1000), st.integers(1, 2), st.integers(1, 4), st.integers(4, 8))
def test_a_specification_survives_its_mapping(buckets, max_tokens, word_ngrams, shortest, longest):
    features = TextFeatures(buckets, max_tokens, word_ngrams, (shortest, longest))
    assert features_from_mapping(features.to_mapping()) == features
