import dataclasses

import numpy as np
import pytest

from aggregator.workbench.strong import train_strong_model
from aggregator.workbench.workloads import load_workload
from fedge.errors import InputError

SEED = bytes(32)


@pytest.fixture(scope="module")
def digits():
    return load_workload("digits", seed=SEED, devices=32)


@pytest.fixture(scope="module")
def model(digits):
    return train_strong_model(digits, SEED, progress=lambda _text: None)


def test_digits_in_unknown_hands_are_read(digits, model):
    rows = model.predict(digits.test.queries)
    assert rows.shape == (len(digits.test), 10) and rows.dtype == np.float32
    np.testing.assert_allclose(rows.sum(axis=1), 1.0, atol=1e-5)
    assert (rows.argmax(axis=1) == digits.test.labels).mean() >= 0.94


def test_two_trainings_give_the_same_bytes(digits, train, model):
    assert train(digits).predict(digits.test.queries[:50]).tobytes() == model.predict(digits.test.queries[:50]).tobytes()


def test_queries_may_come_as_a_list_and_one_by_one(digits, model):
    together = model.predict(digits.test.queries[:5])
    np.testing.assert_allclose(model.predict(list(digits.test.queries[:5])), together, atol=1e-6)
    np.testing.assert_allclose(model.predict([digits.test.query(3)])[0], together[3], atol=1e-6)


def test_two_labels_are_enough(digits, train):
    pair = digits.server.take(np.flatnonzero(np.isin(digits.server.labels, (3, 7))))
    rows = train(dataclasses.replace(digits, server=pair)).predict(pair.queries)
    assert (rows.argmax(axis=1) == pair.labels).mean() >= 0.99
    assert rows[:, [0, 1, 2, 4, 5, 6, 8, 9]].max() == 0.0


@pytest.mark.parametrize("query", ["seven", np.zeros(63, dtype=np.float32), np.full(64, 2.0, dtype=np.float32)])
def test_what_is_no_such_picture_is_refused(model, query):
    with pytest.raises(InputError):
        model.predict([query])


def test_no_queries_get_no_rows(model):
    assert model.predict([]).shape == (0, 10)
