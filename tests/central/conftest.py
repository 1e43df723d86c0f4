"""A tiny strong model that can be inspected, slowed and broken, and the parts that the tests here share."""

from collections.abc import Callable, Sequence
from threading import Event

import numpy as np
import pytest
from numpy.typing import NDArray

from aggregator.central import CentralService, Limits, Pricing
from fedge.features import Query
from fedge.wire import answer_request
from protos.fedge.central.v1.central_pb2 import PURPOSE_ESCALATION, AnswerRequest

LABELS = tuple(f"label-{i}" for i in range(64))


class NumberModel:
    """Answers "17" with label 17 at 0.75, the rest spread evenly; remembers its batches; can be held up or made to fail."""

    def __init__(self) -> None:
        self.batches: list[list[Query]] = []
        self.may_run = Event()
        self.may_run.set()
        self.is_running = Event()
        self.broken_on: Query | None = None

    def predict(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        self.is_running.set()
        assert self.may_run.wait(timeout=30)
        if self.broken_on in list(queries):
            raise RuntimeError("a secret of the model's inside")
        self.batches.append(list(queries))
        probabilities = np.full((len(queries), len(LABELS)), 0.25 / (len(LABELS) - 1), dtype=np.float32)
        for row, query in enumerate(queries):
            probabilities[row, int(str(query).strip())] = 0.75
        return probabilities


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def model() -> NumberModel:
    return NumberModel()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service(model: NumberModel, clock: Clock) -> CentralService:
    return CentralService(
        model=model,
        model_name="numbers",
        labels=LABELS,
        pricing=Pricing("book-1", lambda query: 0.001 * len(str(query))),
        limits=Limits(max_text_bytes=1000),
        clock=clock,
        max_remembered=1000,
        max_age_s=100.0,
    )


@pytest.fixture
def ask() -> Callable[..., AnswerRequest]:
    def make(query: Query = "17", *, key: str = "k", device: str = "dev", **fields: object) -> AnswerRequest:
        request = answer_request(
            idempotency_key=key, device_id=device, query=query, release_id="", purpose=PURPOSE_ESCALATION
        )
        for name, value in fields.items():
            setattr(request, name, value)
        return request

    return make
