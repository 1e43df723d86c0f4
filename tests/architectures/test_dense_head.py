import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedge.architectures import (
    ARCHITECTURES,
    HEAD_BIAS,
    HEAD_WEIGHT,
    SHARE_SLACK,
    DenseHead,
    DescentSettings,
    architecture_from_mapping,
)
from fedge.errors import InputError

B, D, C = 4, 6, 5
HEAD = DenseHead(D, C)
FREE = DescentSettings(l2=0.01, label_smoothing=0.1)


def batch(seed=1, rows=B, weights=None):
    rng = np.random.default_rng(seed)
    head = {HEAD_WEIGHT: rng.normal(size=(D, C)).astype(np.float32), HEAD_BIAS: rng.normal(size=C).astype(np.float32)}
    sample_weights = np.ones(rows, np.float32) if weights is None else np.array(weights, np.float32)
    return head, rng.normal(size=(rows, D)).astype(np.float32), rng.integers(0, C, rows), sample_weights


def gradients(head, embeddings, labels, descent):
    """One gradient an example, by torch's autograd."""
    found = []
    for x, y in zip(torch.tensor(embeddings), torch.tensor(labels), strict=True):
        weight, bias = (torch.tensor(head[name]).requires_grad_() for name in (HEAD_WEIGHT, HEAD_BIAS))
        loss = torch.nn.functional.cross_entropy((x @ weight + bias)[None], y[None], label_smoothing=descent.label_smoothing)
        loss.backward()
        found.append((weight.grad, bias.grad, loss.item()))
    return found


@pytest.mark.parametrize("clip", [math.inf, 2.0, 0.5])
@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (0.5, 2, 1, 0)])
def test_a_step_is_autograds_with_each_examples_gradient_clipped(clip, weights):
    head, x, labels, sample_weights = batch(weights=weights)
    descent = DescentSettings(l2=0.01, label_smoothing=0.1, example_clip_norm=clip)
    step = HEAD.step(head, x, labels, sample_weights, learning_rate=0.5, settings=descent)
    wanted = [torch.zeros(D, C), torch.zeros(C)]
    losses = 0.0
    for (weight, bias, loss), share in zip(gradients(head, x, labels, descent), sample_weights, strict=True):
        norm = math.sqrt(float(weight.square().sum() + bias.square().sum()))
        factor = float(share) * min(1.0, clip / norm) / B
        wanted = [wanted[0] + factor * weight, wanted[1] + factor * bias]
        losses += float(share) * loss
    decay = 0.01 * float(sample_weights.mean())
    weight = head[HEAD_WEIGHT] - 0.5 * (wanted[0].numpy() + decay * head[HEAD_WEIGHT])
    np.testing.assert_allclose(step.weights[HEAD_WEIGHT], weight, atol=1e-6)
    np.testing.assert_allclose(step.weights[HEAD_BIAS], head[HEAD_BIAS] - 0.5 * wanted[1].numpy(), atol=1e-6)
    assert step.loss == pytest.approx(losses / float(sample_weights.sum()), abs=1e-6)


def test_the_moves_of_a_step_are_its_change_example_by_example():
    head, x, labels, weights = batch(3)
    step = HEAD.step(head, x, labels, weights, learning_rate=0.5, settings=DescentSettings())
    np.testing.assert_allclose(step.weights[HEAD_WEIGHT] - head[HEAD_WEIGHT], x.T @ step.moves, atol=1e-6)
    np.testing.assert_allclose(step.weights[HEAD_BIAS] - head[HEAD_BIAS], step.moves.sum(axis=0), atol=1e-6)


def test_one_input_gives_the_same_bytes_twice():
    inputs = batch(4)
    first, again = (HEAD.step(*inputs, learning_rate=0.5, settings=FREE) for _ in range(2))
    assert all(first.weights[name].tobytes() == again.weights[name].tobytes() for name in first.weights)


def test_a_batch_of_weight_zero_changes_nothing():
    head, x, labels, _ = batch(5)
    step = HEAD.step(head, x, labels, np.zeros(B, np.float32), learning_rate=0.5, settings=FREE)
    assert step.loss == 0.0
    assert all(np.array_equal(step.weights[name], head[name]) for name in head)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3), min_size=1))
def test_every_embedding_leaves_with_one_norm(rows):
    normalized = DenseHead(3, 2).normalize(np.array(rows, np.float32))
    np.testing.assert_allclose(np.linalg.norm(normalized.astype(np.float64), axis=1), math.sqrt(3), rtol=1e-5)


def test_an_embedding_of_a_layer_normalization_stays_as_it_is():
    rows = np.random.default_rng(1).normal(size=(5, 64))
    rows = ((rows - rows.mean(axis=1, keepdims=True)) / rows.std(axis=1, keepdims=True)).astype(np.float32)
    np.testing.assert_allclose(DenseHead(64, 2).normalize(rows), rows, rtol=1e-5)


def test_embeddings_that_do_not_fit_or_are_not_finite_are_refused():
    with pytest.raises(InputError, match="do not fit a head of 6"):
        HEAD.normalize(np.zeros((2, 5), np.float32))
    with pytest.raises(InputError, match="not finite"):
        HEAD.normalize(np.full((2, D), np.nan, np.float32))


def test_shares_add_up_and_pass_one_half_where_the_rest_is_shorter_than_the_example():
    rng = np.random.default_rng(2)
    for _ in range(50):
        x, moves = rng.normal(size=(5, D)).astype(np.float32), rng.normal(size=(5, C)).astype(np.float32)
        moves[0] *= rng.uniform(0, 8)
        parts = [np.append(np.outer(a, b), b) for a, b in zip(x, moves, strict=True)]
        shares = HEAD.shares(x, moves)
        assert shares.sum() == pytest.approx(1)
        for share, part in zip(shares, parts, strict=True):
            rest = sum(parts) - part
            assert (share > 0.5) == (np.linalg.norm(rest) < np.linalg.norm(part))


def test_nothing_has_no_shares():
    assert not HEAD.shares(np.ones((3, D), np.float32), np.zeros((3, C), np.float32)).any()


def test_an_architecture_is_read_back_from_its_mapping():
    for name, kind in ARCHITECTURES.items():
        one = kind(3, 2)
        assert one.to_mapping()["name"] == name
        assert architecture_from_mapping(one.to_mapping()) == one
    assert DenseHead(3, 2).parameters == 8


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ("dense-head-v1", "must be an object"),
        ({"name": "dense-head-v9", "dimensions": 3, "classes": 2}, "unknown to this fedge"),
        ({"dimensions": 3, "classes": 2}, "unknown to this fedge"),
        ({"name": "dense-head-v1", "dimensions": 3}, "sizes are classes and dimensions"),
        ({"name": "dense-head-v1", "dimensions": 3, "classes": 2, "code": "x"}, "sizes are classes and dimensions"),
        ({"name": "dense-head-v1", "dimensions": 0, "classes": 2}, "whole number from 1"),
        ({"name": "dense-head-v1", "dimensions": True, "classes": 2}, "whole number from 1"),
        ({"name": "dense-head-v1", "dimensions": 3, "classes": 10**9}, "whole number from 1"),
    ],
)
def test_what_is_no_architecture_of_the_list_is_refused(mapping, words):
    with pytest.raises(InputError, match=words):
        architecture_from_mapping(mapping)


@pytest.mark.parametrize("most", [0.5, 0.4, 0.7])
def test_a_limited_example_holds_its_share_and_the_others_are_left_as_they_are(most):
    rng = np.random.default_rng(3)
    for strength in (1.0, 8.0, 30.0):
        x, moves = rng.normal(size=(12, D)).astype(np.float32), rng.normal(size=(12, C)).astype(np.float32)
        moves[4] *= strength
        limited, kept = HEAD.limit_shares(x, moves, most)
        assert HEAD.shares(x, limited).max() <= most + SHARE_SLACK
        np.testing.assert_allclose(limited, moves * kept[:, None], rtol=1e-5)
        assert (kept == 1).sum() >= 8
        if strength == 30.0:
            assert kept[4] < 0.5


def test_the_only_example_keeps_nothing_and_a_limit_of_one_limits_nothing():
    x, moves = np.ones((1, D), np.float32), np.ones((1, C), np.float32)
    assert HEAD.limit_shares(x, moves, 0.5)[1].tolist() == [0.0]
    assert np.array_equal(HEAD.limit_shares(x, moves, 1.0)[0], moves)
