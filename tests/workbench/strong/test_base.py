import numpy as np

from aggregator.workbench.strong import MemoizedModel


class Counting:
    """Says how long a query is, and notes every call."""

    name = "counting"

    def __init__(self):
        self.calls = []

    def predict(self, queries):
        self.calls.append(list(queries))
        return np.array([[len(query), 0] for query in queries], dtype=np.float32).reshape(-1, 2)


def test_each_distinct_query_is_answered_once_and_rows_keep_the_order():
    inner = Counting()
    model = MemoizedModel(inner)
    model.precompute(["a", "bbb", "a"])
    rows = model.predict(["bbb", "cc", "a", "A "])
    assert inner.calls == [["a", "bbb"], ["cc"]]
    assert rows[:, 0].tolist() == [3, 2, 1, 1]
    assert model.name == "counting"


def test_nothing_new_means_no_call():
    inner = Counting()
    model = MemoizedModel(inner)
    model.precompute(["a"])
    model.precompute(["a"])
    model.predict(["a"])
    assert len(inner.calls) == 1


def test_pixels_are_remembered_by_their_exact_bits():
    inner = Counting()
    model = MemoizedModel(inner)
    model.predict([np.zeros(3, dtype=np.float32), np.full(3, 0.5, dtype=np.float32), -np.zeros(3, dtype=np.float32)])
    assert len(inner.calls[0]) == 2


def test_no_queries_get_no_rows():
    model = MemoizedModel(Counting())
    assert model.predict([]).shape == (0, 2)


def test_answers_given_out_cannot_change_the_memory():
    model = MemoizedModel(Counting())
    model.predict(["a"])[:] = 7
    assert model.predict(["a"]).tolist() == [[1, 0]]
