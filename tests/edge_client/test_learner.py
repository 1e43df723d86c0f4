from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_client.rounds.learner import Update, prepare_update, train
from edge_client.training_policy import Training, training_from_mapping
from fedge.architectures import DenseHead
from fedge.errors import FedgeError, VerificationError
from fedge.randomness import generator, root_seed
from fedge.release import flatten

TRAINING = Training(learning_rate=0.5, batch_size=4, epochs=3, clip_norm=1.0, weight_cap=32)
SEED = root_seed(11)
HEAD = DenseHead(3, 2)


def numpy_train(weights, embeddings, labels, sample_weights, training, seed):
    """Gradient descent on the same batches, in float64."""
    w, b = (weights[name].astype(np.float64) for name in ("head.weight", "head.bias"))
    losses = 0.0
    for epoch in range(training.epochs):
        order = generator(seed, "epoch", epoch).permutation(len(labels))
        losses = 0.0
        for start in range(0, len(order), training.batch_size):
            rows = order[start : start + training.batch_size]
            x, y, s = embeddings[rows].astype(np.float64), labels[rows], sample_weights[rows].astype(np.float64)
            logits = x @ w + b
            p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            losses -= float((s * np.log(p[np.arange(len(y)), y])).sum())
            error = (p - np.eye(2)[y]) * (s / len(y))[:, None]
            w, b = w - training.learning_rate * x.T @ error, b - training.learning_rate * error.sum(axis=0)
    return {"head.weight": w, "head.bias": b}, losses


@pytest.fixture
def initial(make_release):
    return make_release(scale=0.1).weights()


def examples(count: int):
    rng = np.random.default_rng(count)
    return (
        rng.random((count, 3), dtype=np.float32),
        rng.integers(0, 2, count),
        rng.uniform(0.5, 2.0, count).astype(np.float32),
    )


@pytest.mark.parametrize("count", [1, 3, 4, 7, 8, 21])
def test_training_is_gradient_descent_on_the_shuffled_examples(initial, count):
    embeddings, labels, sample_weights = examples(count)
    update = train(HEAD, initial, embeddings, labels, training=TRAINING, seed=SEED, sample_weights=sample_weights)
    expected, loss = numpy_train(initial, embeddings, labels, sample_weights, TRAINING, SEED)
    wanted = np.concatenate([expected["head.bias"].ravel(), expected["head.weight"].ravel()]) - flatten(initial)
    np.testing.assert_allclose(update.delta, wanted, atol=2e-6)
    assert update.loss_sum == pytest.approx(loss, rel=1e-5)
    assert (update.examples, update.steps) == (count, 3 * -(-count // 4))


def test_two_runs_with_one_seed_give_the_same_bytes_and_another_seed_does_not(initial):
    embeddings, labels, _ = examples(13)
    first = train(HEAD, initial, embeddings, labels, training=TRAINING, seed=SEED)
    again = train(HEAD, initial, embeddings, labels, training=TRAINING, seed=SEED)
    other = train(HEAD, initial, embeddings, labels, training=TRAINING, seed=root_seed(12))
    assert first.delta.tobytes() == again.delta.tobytes()
    assert first.delta.tobytes() != other.delta.tobytes()


def test_no_examples_give_a_zero_update(initial):
    update = train(HEAD, initial, np.zeros((0, 3), np.float32), np.zeros(0, np.int64), training=TRAINING, seed=SEED)
    assert update.examples == update.steps == 0
    assert update.delta.shape == (8,)
    assert not update.delta.any()


def test_the_initial_weights_are_left_as_they_are(initial):
    before = flatten(initial).copy()
    embeddings, labels, _ = examples(5)
    train(HEAD, initial, embeddings, labels, training=TRAINING, seed=SEED)
    assert np.array_equal(flatten(initial), before)


def test_a_training_that_diverges_is_an_error(initial):
    embeddings, labels, _ = examples(8)
    wild = Training(learning_rate=9e5, batch_size=4, epochs=40, clip_norm=1.0, weight_cap=32)
    with pytest.raises(FedgeError, match="diverged"):
        train(HEAD, initial, embeddings * np.float32(1e30), labels, training=wild, seed=SEED)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20),
    st.floats(0.01, 50),
    st.integers(1, 100),
    st.integers(1, 64),
)
def test_a_prepared_update_never_exceeds_weight_times_clip_norm(values, clip_norm, count, weight_cap):
    update = Update(np.array(values, np.float32), count, 0.0, 1)
    prepared = prepare_update(update, clip_norm=clip_norm, weight_cap=weight_cap)
    assert prepared.weight == min(count, weight_cap) / weight_cap
    assert np.linalg.norm(prepared.vector) <= prepared.weight * clip_norm * (1 + 1e-5)
    assert prepared.clipped == (prepared.norm > clip_norm)
    if not prepared.clipped:
        np.testing.assert_allclose(prepared.vector, update.delta * prepared.weight, rtol=1e-5)


def test_clipping_keeps_the_direction():
    prepared = prepare_update(Update(np.array([3.0, 4.0], np.float32), 8, 0.0, 1), clip_norm=1.0, weight_cap=16)
    np.testing.assert_allclose(prepared.vector, [0.3, 0.4], rtol=1e-6)
    assert (prepared.norm, prepared.weight, prepared.clipped) == (5.0, 0.5, True)


def test_hyperparameters_are_read_strictly():
    good = {"learning_rate": 0.5, "batch_size": 4, "epochs": 3, "clip_norm": 1.0, "weight_cap": 32}
    good |= {"example_clip_norm": 2.0, "l2": 0.01, "label_smoothing": 0.1, "optimizer": "sgd"}
    wanted = replace(TRAINING, example_clip_norm=2.0, l2=0.01, label_smoothing=0.1)
    assert training_from_mapping(good) == wanted
    unusable = [("epochs", 0), ("batch_size", 2.5), ("learning_rate", "high"), ("clip_norm", None)]
    for name, value in [*unusable, ("example_clip_norm", 0), ("l2", -1)]:
        with pytest.raises(VerificationError, match=name):
            training_from_mapping({**good, name: value})


def test_a_device_of_heavy_examples_alone_trains_as_hard_as_they_weigh(initial):
    """A device that has pinned labels only must not lose them by that."""
    embeddings, labels, _ = examples(4)
    once = Training(learning_rate=0.5, batch_size=4, epochs=1, clip_norm=1.0, weight_cap=32)
    light, heavy = (
        train(HEAD, initial, embeddings, labels, training=once, seed=SEED, sample_weights=np.full(4, weight, np.float32))
        for weight in (1.0, 10.0)
    )
    same = train(HEAD, initial, embeddings, labels, training=once, seed=SEED)
    assert light.delta.tobytes() == same.delta.tobytes()
    np.testing.assert_allclose(heavy.delta, 10 * light.delta, rtol=1e-4)
    assert heavy.loss_sum == pytest.approx(10 * light.loss_sum, rel=1e-5)
