"""Training the encoder on the server's own labelled part, and a head for a warm start.

One thread and a seeded generator, so that one seed gives one encoder. The head that the encoder is trained with is thrown
away: the fleet learns its own. Never sees a query of a device or of the test part.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from aggregator.workbench.architectures import Dense, Encoder
from aggregator.workbench.training_config import EncoderTraining
from fedge.architectures import HEAD_BIAS, HEAD_WEIGHT
from fedge.release import Weights

Progress = Callable[[int, int], None]
"""Called with (epochs done, epochs in all)."""


def train_encoder(
    encoder: Encoder,
    inputs: Mapping[str, NDArray[Any]],
    labels: NDArray[np.int64],
    *,
    classes: int,
    training: EncoderTraining,
    progress: Progress | None = None,
) -> None:
    """Train ``encoder`` in place on ``inputs`` with ``labels`` int64 [n].

    Source of the schedule: Smith and Topin, "Super-Convergence" (2019), one cycle, AdamW. Call it within `seeded`.
    """
    columns = [torch.from_numpy(array) for array in inputs.values()]
    target = torch.from_numpy(labels)
    head = Dense(encoder.dimensions, classes)
    parameters = [*encoder.parameters(), *head.parameters()]
    batches = max(1, len(labels) // training.batch_size)
    optimizer = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.learning_rate, total_steps=training.epochs * batches, pct_start=0.1
    )
    encoder.train()
    for epoch in range(training.epochs):
        for rows in torch.randperm(len(labels)).tensor_split(batches):
            embedding = encoder(*(_trimmed(columns, rows)))
            logits = head(functional.dropout(embedding, training.head_dropout))
            loss = functional.cross_entropy(logits, target[rows], label_smoothing=training.label_smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        if progress is not None:
            progress(epoch + 1, training.epochs)
    encoder.eval()


def fit_head(embeddings: NDArray[np.float32], labels: NDArray[np.int64], *, classes: int, l2: float = 1e-4) -> Weights:
    """A head [D, C] for frozen embeddings [n, D]: multinomial logistic regression by L-BFGS, for a warm start."""
    rows, target = torch.from_numpy(embeddings), torch.from_numpy(labels)
    head = Dense(embeddings.shape[1], classes, zeros=True)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(head(rows), target, label_smoothing=0.1) + l2 * head.weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return {HEAD_WEIGHT: head.weight.detach().numpy().copy(), HEAD_BIAS: head.bias.detach().numpy().copy()}


@contextmanager
def seeded(seed: bytes) -> Iterator[None]:
    """Torch's global generator from ``seed`` and one thread inside; both as before afterwards."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(seed[:8], "big") >> 1)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _trimmed(columns: list[Tensor], rows: Tensor) -> list[Tensor]:
    """The rows of each input; for a text only as many columns as its longest row in this batch fills."""
    picked = [column[rows] for column in columns]
    if picked[0].dtype == torch.int64:
        longest = max(1, int((picked[0] != 0).sum(dim=1).max()))
        return [column[:, :longest] for column in picked]
    return picked
