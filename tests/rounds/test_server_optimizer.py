"""The server's step, by closed-form numbers."""

import numpy as np
import pytest

from aggregator.rounds.server_optimizer import ServerOptimizer, apply, init


def test_plain_averaging_adds_the_mean_change() -> None:
    _, weights = apply(ServerOptimizer(), init(2), np.array([1.0, 2.0], np.float32), np.array([0.5, -1.0]))
    assert weights.tolist() == [1.5, 1.0]
    assert weights.dtype == np.float32


def test_momentum_accumulates_geometrically() -> None:
    optimizer = ServerOptimizer(momentum=0.5)
    state, weights = init(1), np.zeros(1, np.float32)
    for _ in range(3):
        state, weights = apply(optimizer, state, weights, np.ones(1))
    # Steps 1, 1.5 and 1.75.
    assert weights[0] == pytest.approx(4.25)


def test_adam_moves_by_about_the_learning_rate_whatever_the_scale() -> None:
    optimizer = ServerOptimizer(kind="fedadam", learning_rate=0.1, momentum=0.0, beta_2=0.0, tau=1e-9)
    _, weights = apply(optimizer, init(2), np.zeros(2, np.float32), np.array([1e-3, -50.0]))
    assert weights.tolist() == pytest.approx([0.1, -0.1], rel=1e-4)


def test_adagrad_slows_down_with_all_that_has_come_so_far() -> None:
    optimizer = ServerOptimizer(kind="fedadagrad", learning_rate=0.1, momentum=0.0, tau=1e-12)
    state, weights = init(1), np.zeros(1, np.float32)
    for _ in range(4):
        state, weights = apply(optimizer, state, weights, np.full(1, 3.0))
    # Steps 0.1 / sqrt(1), 0.1 / sqrt(2), 0.1 / sqrt(3), 0.1 / sqrt(4).
    assert weights[0] == pytest.approx(0.1 * (1 + 2**-0.5 + 3**-0.5 + 0.5))


def test_no_change_leaves_the_weights_alone() -> None:
    before = np.array([3.0], np.float32)
    for kind in ("fedavgm", "fedadam", "fedadagrad"):
        _, after = apply(ServerOptimizer(kind=kind), init(1), before, np.zeros(1))
        assert after.tolist() == before.tolist()
