import sys

import numpy as np
import pytest

from aggregator.workbench.strong import minilm
from fedge.errors import InputError, VerificationError

SENTENCES = ["Turn on the lights, please.", "what's the weather in Zürich?", ""]
# The first four coordinates that sentence-transformers 6.2.0 gives for them with the same weights.
EXPECTED = [
    [0.02246694, 0.00671839, 0.08471216, 0.03827741],
    [-0.00291022, 0.07506709, 0.08557038, 0.05452308],
    [-0.11883849, 0.04829884, -0.00254806, -0.0110111],
]


@pytest.fixture(scope="module")
def encoder():
    if not minilm.is_installed():
        pytest.skip("the extra 'minilm' is not installed")
    return minilm.SentenceEncoder()


def test_embeddings_equal_those_of_sentence_transformers(encoder):
    rows = encoder.encode(SENTENCES)
    np.testing.assert_allclose(rows[:, :4], EXPECTED, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)


def test_a_sentence_s_embedding_does_not_depend_on_its_neighbours(encoder):
    texts = [*SENTENCES, "one", "two words", "a rather long sentence " * 30, "lights off", "on with the lights"] * 12
    together = encoder.encode(texts)
    for i in (0, 1, 2, 5, 95):
        np.testing.assert_allclose(encoder.encode([texts[i]])[0], together[i], atol=2e-6)


def test_long_texts_are_cut_and_no_text_is_none(encoder):
    long = encoder.encode(["word " * 200, "word " * 400])
    np.testing.assert_allclose(long[0], long[1], atol=2e-6)
    assert encoder.encode([]).shape == (0, 384)


def test_sentence_transformers_and_transformers_are_not_loaded(encoder):
    encoder.encode(["hello"])
    assert "sentence_transformers" not in sys.modules and "transformers" not in sys.modules


def test_other_weights_are_refused(encoder, tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    monkeypatch.setattr(minilm, "_folder", lambda: tmp_path)
    with pytest.raises(VerificationError, match=r"model\.safetensors"):
        minilm.SentenceEncoder()


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(minilm, "find_spec", lambda _name: None)
    assert not minilm.is_installed()
    with pytest.raises(InputError, match="minilm"):
        minilm._folder()
