"""The comparison of scores: each score by hand, and a learned router whose federated training equals the pooled one."""

import numpy as np
import pytest

from benchmarks.routing_scores import differences, federated_logistic, federated_sum, scaled, scores
from fedge.errors import InputError
from fedge.randomness import generator, root_seed

SEED = root_seed(5)


def test_scores_by_hand():
    told = scores(np.log(np.array([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]])), 1.0)
    assert told["maximum probability"].tolist() == pytest.approx([0.5, 0.6])
    assert told["margin"].tolist() == pytest.approx([0.25, 0.4])
    assert told["entropy"][0] == pytest.approx(-1.5 * np.log(2))
    assert told["energy"].tolist() == pytest.approx([0.0, 0.0])  # the probabilities add up to 1


def test_a_temperature_changes_the_scaled_scores_alone():
    logits = np.array([[2.0, 0.0]])
    told = scores(logits, 0.5)
    assert told["maximum probability"][0] == pytest.approx(1 / (1 + np.exp(-4)))
    assert told["maximum probability, not scaled"][0] == pytest.approx(1 / (1 + np.exp(-2)))
    assert told["energy"][0] == pytest.approx(np.log(np.exp(2) + 1))


def test_the_sum_of_means_is_the_sum_over_all_examples():
    total = federated_sum([np.array([0.5, -1.0]), np.array([2.0, 0.25])], [2, 4], most=4, bound=4.0, seed=SEED)
    assert total.tolist() == pytest.approx([9.0, -1.0], abs=1e-5)
    with pytest.raises(InputError, match="1 devices have labels"):
        federated_sum([np.ones(2)], [1], most=1, bound=4.0, seed=SEED)


def test_federated_training_ends_where_the_gradient_over_all_examples_vanishes():
    draw = generator(SEED, "data")
    rows = [draw.normal(size=(n, 3)) + number for number, n in enumerate((5, 40, 90))]
    targets = [(r[:, 0] + draw.normal(size=len(r)) > 1.0).astype(float) for r in rows]
    weights, mean, deviation = federated_logistic(rows, targets, penalty=1.0, seed=SEED)
    pooled, wanted = np.concatenate(rows), np.concatenate(targets)
    assert mean == pytest.approx(pooled.mean(axis=0), abs=1e-3)
    assert deviation == pytest.approx(pooled.std(axis=0), abs=1e-2)
    x = scaled(pooled, mean, deviation)
    gradient = x.T @ (wanted - 1 / (1 + np.exp(-(x @ weights)))) - np.array([1.0, 1.0, 1.0, 1e-6]) * weights
    assert np.abs(gradient).max() < 1e-2
    assert weights[0] > 1.0 and abs(weights[1]) < weights[0] / 2


def test_a_score_is_no_better_than_itself_and_the_best_beats_the_worst_by_the_hand_count():
    right, strong = np.array([1.0, 1.0, 0.0, 0.0]), np.ones(4)
    best = np.array([4.0, 3.0, 2.0, 1.0])
    same = differences(best, best, right, strong, seed=SEED, draws=100)
    assert same["aurc"] == {"value": 0.0, "interval_95": [0.0, 0.0]}
    found = differences(best, -best, right, strong, seed=SEED, draws=100)
    assert found["local_at_minus_one_point"]["value"] == 0.5
    assert found["aurc"]["value"] == pytest.approx((0 + 0 + 1 / 3 + 1 / 2 - 1 - 1 - 2 / 3 - 1 / 2) / 4)
