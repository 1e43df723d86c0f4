import numpy as np

from aggregator.workbench.strong.lexical import fit_lexical_vectors

TEXTS = ["turn on the light", "turn off the light", "play a song", "set an alarm", "play music in the kitchen"]


def fitted(dimensions=256, seed=bytes(32)):
    return fit_lexical_vectors(TEXTS, dimensions=dimensions, seed=seed)


def test_a_row_is_its_own_whatever_stands_beside_it():
    vectors = fitted()
    together = vectors.encode(TEXTS)
    for text, row in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(vectors.encode([text])[0], row, atol=1e-6)


def test_equal_seeds_give_equal_bytes_and_another_seed_another_projection():
    assert fitted().encode(TEXTS).tobytes() == fitted().encode(TEXTS).tobytes()
    assert not np.allclose(fitted().encode(TEXTS), fitted(seed=b"1" * 32).encode(TEXTS))


def test_projection_keeps_lengths_and_angles_nearly():
    rows = fitted(dimensions=4096).encode(TEXTS)
    products = rows @ rows.T
    np.testing.assert_allclose(np.diag(products), 1.0, atol=0.08)
    assert products[0, 1] > 0.45  # two commands with three words in common
    assert abs(products[0, 3]) < 0.15


def test_a_text_without_any_known_n_gram_is_zero():
    vectors = fitted()
    assert not vectors.encode(["qqxqq", "", "?!"]).any()
    assert vectors.encode(["qqxqq light"]).any()


def test_a_rare_word_weighs_more_than_a_common_one():
    rows = fitted(dimensions=4096).encode(["the", "song", "the song"])
    assert rows[2] @ rows[1] > rows[2] @ rows[0]
