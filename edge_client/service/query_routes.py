"""`/v1/ask`, batches, queued answers and corrections: fedge's own part of the local API."""

from functools import partial
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edge_client.inference.query import Answer
from edge_client.service.context import REQUEST_ID, Service, read
from edge_client.service.errors import ApiError
from fedge.features import Query
from fedge.routing import Mode

MAX_BATCH = 256
MAX_DIGITS = 18
"""Of an answer's number: the store holds 63 bits."""

Asked = Annotated[str, Field(min_length=1, pattern=r"\S")] | Annotated[list[float], Field(min_length=1, max_length=1 << 16)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AskRequest(_Strict):
    """One query: a text, or pixels from 0 to 1. ``queue``: keep it for central where central cannot be asked now."""

    query: Asked
    mode: Mode = "auto"
    topic: str | None = None
    queue: bool = False


class BatchRequest(_Strict):
    """Several queries, answered as if they came one after another. ``topics``: one for each, where given."""

    queries: Annotated[list[Asked], Field(min_length=1, max_length=MAX_BATCH)]
    mode: Mode = "auto"
    topics: list[str | None] | None = None
    queue: bool = False


class CorrectionRequest(_Strict):
    """The label that the answer should have had."""

    label: Annotated[str, Field(min_length=1, max_length=200)]


def document(answer: Answer) -> dict[str, Any]:
    """The JSON of one answer, as `fedge ask --json` prints it."""
    return {
        "id": answer.answer_id,
        "answer": answer.answer,
        "answered_by": answer.answered_by,
        "reason": answer.reason,
        "confidence": answer.confidence,
        "usd": answer.usd,
        "release": answer.release,
        "latency_ms": answer.latency_ms,
        "degraded": answer.degraded,
        "recorded": answer.recorded,
    }


def headers(answer: Answer, request: Request) -> dict[str, str]:
    """Who answered and what it cost, for clients that look at headers only."""
    said = {
        "x-fedge-id": str(answer.answer_id),
        "x-fedge-answered-by": answer.answered_by,
        "x-fedge-reason": answer.reason,
        "x-fedge-confidence": f"{answer.confidence:.6f}",
        "x-fedge-usd": f"{answer.usd:.9f}",
        "x-fedge-degraded": str(answer.degraded).lower(),
        "x-fedge-recorded": str(answer.recorded).lower(),
    }
    return said | ({"x-fedge-release": answer.release} if answer.release else {}) | echo(request)


def echo(request: Request) -> dict[str, str]:
    """The request's own id, handed back."""
    request_id = request.headers.get(REQUEST_ID)
    return {} if request_id is None else {REQUEST_ID: request_id}


async def ask(service: Service, request: Request) -> Response:
    """`POST /v1/ask`: 200 with an answer, or 202 where it is the device's own for now and the query is queued."""
    asked, body = await read(AskRequest, request)
    _check_queue(asked.queue, asked.mode)
    query = _query(asked.query)
    answer = await service.once(
        request,
        body,
        partial(service.agent.ask, query, mode=asked.mode, topic=asked.topic, queue=asked.queue),
    )
    service.figures.answered([answer])
    shown = document(answer) | ({"queued": answer.queued} if asked.queue else {})
    return JSONResponse(shown, status_code=202 if answer.queued else 200, headers=headers(answer, request))


async def ask_batch(service: Service, request: Request) -> Response:
    """`POST /v1/ask/batch`: answers in the order of the queries."""
    asked, body = await read(BatchRequest, request)
    _check_queue(asked.queue, asked.mode)
    if asked.topics is not None and len(asked.topics) != len(asked.queries):
        raise ApiError(
            f"{len(asked.topics)} topics for {len(asked.queries)} queries: give one for each, or none", param="topics"
        )
    queries = [_query(query) for query in asked.queries]
    answers = await service.once(
        request,
        body,
        partial(service.agent.ask_many, queries, mode=asked.mode, topics=asked.topics, queue=asked.queue),
    )
    service.figures.answered(answers)
    shown = [document(answer) | ({"queued": answer.queued} if asked.queue else {}) for answer in answers]
    return JSONResponse({"answers": shown}, headers=echo(request))


async def show(service: Service, request: Request) -> Response:
    """`GET /v1/answers/{id}`: what became of a queued query, or the answer as it was given."""
    number = _number(request)
    store = service.agent.store
    waiting, given = await service.call(lambda: (store.waiting.get(number), store.answers.get(number)))
    if waiting is None and given is None:
        raise ApiError(f"no answer has the number {number}", status=404, param="id", code="not_found")
    if waiting is not None and waiting.state == "answered":
        shown: dict[str, Any] = {"answer": waiting.label, "answered_by": waiting.answered_by, "usd": waiting.price_usd}
    else:
        shown = {"answer": given.answer if given else None, "answered_by": given.answered_by if given else None, "usd": None}
    return JSONResponse({"id": number, "state": waiting.state if waiting else "answered", **shown})


async def correct(service: Service, request: Request) -> Response:
    """`POST /v1/answers/{id}/correction`: on disk when this returns. ``kept`` is false for a probe: those calibrate only."""
    wanted, _ = await read(CorrectionRequest, request)
    number = _number(request)
    if await service.call(lambda: service.agent.store.answers.get(number)) is None:
        raise ApiError(
            f"no answer has the number {number}: it is not this device's, or too long ago",
            status=404,
            param="id",
            code="not_found",
        )
    kept = await service.call(partial(service.agent.correct, number, wanted.label))
    return JSONResponse({"id": number, "label": wanted.label, "kept": kept})


def _number(request: Request) -> int:
    """Return the number of an answer in the address. Raises ApiError for what the store cannot hold."""
    text: str = request.path_params["id"]
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise ApiError(f"no answer has the number {text[:40]}", status=404, param="id", code="not_found")
    return int(text)


def _query(asked: str | list[float]) -> Query:
    return asked if isinstance(asked, str) else np.asarray(asked, dtype=np.float32)


def _check_queue(queue: bool, mode: Mode) -> None:
    if queue and mode == "local-only":
        raise ApiError("a local-only query never goes to central: leave out queue, or the mode", param="queue")
