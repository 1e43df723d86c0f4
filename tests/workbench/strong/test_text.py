import numpy as np
import pytest

from aggregator.workbench.strong import text as text_module
from aggregator.workbench.workloads import Split
from fedge.errors import InputError


def accuracy(model, split):
    return float((model.predict(split.queries).argmax(axis=1) == split.labels).mean())


def joined(first, second):
    return Split(
        first.queries + second.queries,
        np.concatenate([first.labels, second.labels]),
        np.concatenate([first.groups, second.groups]),
    )


def test_new_sentences_get_their_label_and_strange_ones_are_told(either, house, train):
    workload = house.workload()
    assert accuracy(train(workload), workload.test) >= 0.85


def test_probabilities_are_ordered_as_the_labels_and_sum_to_one(either, house, train):
    workload = house.workload()
    rows = train(workload).predict(["wake me up at noon", *house.strange, ""])
    assert rows.shape == (10, 5) and rows.dtype == np.float32
    assert workload.labels[int(rows[0].argmax())] == "alarm"
    np.testing.assert_allclose(rows.sum(axis=1), 1.0, atol=1e-5)


def test_two_trainings_give_the_same_bytes(either, house, train):
    queries = house.workload().test.queries
    assert train(house.workload()).predict(queries).tobytes() == train(house.workload()).predict(queries).tobytes()


def test_an_answer_does_not_depend_on_what_is_asked_beside_it(either, house, train):
    workload = house.workload()
    model = train(workload)
    together = model.predict(workload.test.queries)
    for i in range(0, len(together), 5):
        np.testing.assert_allclose(model.predict([workload.test.query(i)])[0], together[i], atol=1e-4)


def test_spellings_of_one_query_get_one_answer(no_minilm, house, train):
    one, two = train(house.workload()).predict(["Wake me  up at NOON", " wake me up at noon"])
    assert one.tobytes() == two.tobytes()


def test_only_the_server_s_part_trains(no_minilm, house, train):
    workload = house.workload()
    other = house.workload(test=house.split(places=(3,), strange=house.strange[:1]))
    asked = workload.test.queries
    assert train(workload).predict(asked).tobytes() == train(other).predict(asked).tobytes()


def test_the_name_says_whether_minilm_was_there(house, train, monkeypatch):
    from aggregator.workbench.strong import minilm

    if minilm.is_installed():
        assert train(house.workload()).name.startswith("MiniLM-L6 embeddings")
    monkeypatch.setattr(minilm, "is_installed", lambda: False)
    assert "MiniLM is not installed" in train(house.workload()).name


def test_without_an_out_of_scope_label_every_query_has_a_label(no_minilm, house, train):
    server = house.split(places=(0, 1, 2), strange=())
    workload = house.workload(server=server, oos_label=None, oos_share=0.0, labels=house.labels[:4])
    rows = train(workload).predict(list(house.strange))
    assert rows.shape == (8, 4)
    np.testing.assert_allclose(rows.sum(axis=1), 1.0, atol=1e-5)


def test_a_label_that_the_server_never_saw_has_no_probability(no_minilm, house, train):
    full = house.split(places=(0, 1, 2), strange=house.strange[:4])
    server = full.take(np.flatnonzero(full.labels != 2))
    rows = train(house.workload(server=server)).predict(["play some songs by abba", "turn on the light in the hall"])
    assert rows[:, 2].tolist() == [0.0, 0.0]
    assert rows[1].argmax() == 1


def test_a_text_that_stands_twice_counts_once(no_minilm, house, train):
    once = house.split(places=(0, 1, 2), strange=house.strange[:4])
    asked = house.workload().test.queries
    assert (
        train(house.workload(server=joined(once, once))).predict(asked).tobytes()
        == train(house.workload(server=once)).predict(asked).tobytes()
    )


def test_a_server_part_beyond_the_limit_is_thinned_with_every_label_kept(no_minilm, house, train, monkeypatch):
    monkeypatch.setattr(text_module, "MAX_EXAMPLES", 20)
    model = train(house.workload())
    assert len(model.ridge.examples) == 20
    assert model.known.tolist() == [0, 1, 2, 3]
    assert model.calibration.scope is not None  # out-of-scope examples are kept as well


def test_pixels_are_refused_in_one_line(no_minilm, house, train):
    with pytest.raises(InputError, match="takes text"):
        train(house.workload()).predict([np.zeros(3, dtype=np.float32)])


def test_a_server_part_without_anything_in_scope_is_refused(no_minilm, house, train):
    with pytest.raises(InputError, match="in scope"):
        train(house.workload(server=house.split(places=(), strange=house.strange)))


def test_no_queries_get_no_rows(no_minilm, house, train):
    assert train(house.workload()).predict([]).shape == (0, 5)
