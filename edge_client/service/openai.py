"""The OpenAI-compatible part: existing clients point their base URL at the device and get a label for their last message.

Three models stand for the three ways to ask. Parameters that only a language model has (temperature, stop, seed, ...) are
taken and change nothing. A `fedge` object and headers say who answered, why, how sure and for how much.
"""

import json
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from edge_client.answering.answer import Answer
from edge_client.service.asking import document, echo, headers
from edge_client.service.errors import ApiError
from edge_client.service.state import Service, read
from fedge.routing import Mode

MODELS: Mapping[str, Mode] = {"fedge/auto": "auto", "fedge/local-only": "local-only", "fedge/central": "central"}
_NO_PARAMETERS_OF_A_LANGUAGE_MODEL = ConfigDict(extra="ignore", frozen=True)


class TextPart(BaseModel):
    """A part of a message."""

    model_config = _NO_PARAMETERS_OF_A_LANGUAGE_MODEL
    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """A message; only the last one of the user is answered."""

    model_config = _NO_PARAMETERS_OF_A_LANGUAGE_MODEL
    role: str
    content: str | list[TextPart] | None = None

    @property
    def text(self) -> str:
        """What it says."""
        if isinstance(self.content, list):
            return " ".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(BaseModel):
    """What a stream carries besides the answer."""

    model_config = _NO_PARAMETERS_OF_A_LANGUAGE_MODEL
    include_usage: bool = False


class ChatRequest(BaseModel):
    """What is read of a chat completion's body."""

    model_config = _NO_PARAMETERS_OF_A_LANGUAGE_MODEL
    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None


def mode_of(model: str) -> Mode:
    """The way of asking that a model's name stands for. Raises ApiError for an unknown one."""
    if model not in MODELS:
        raise ApiError(
            f"the model {model[:100]!r} does not exist here: use one of {', '.join(MODELS)}",
            status=404,
            param="model",
            code="model_not_found",
        )
    return MODELS[model]


async def models(service: Service, request: Request) -> Response:
    """`GET /v1/models`."""
    return JSONResponse({"object": "list", "data": [_card(service, name) for name in MODELS]})


async def model(service: Service, request: Request) -> Response:
    """`GET /v1/models/{model}`."""
    mode_of(request.path_params["model"])
    return JSONResponse(_card(service, request.path_params["model"]))


async def chat(service: Service, request: Request) -> Response:
    """`POST /v1/chat/completions`: the device's (or central's) label as the assistant's message."""
    asked, body = await read(ChatRequest, request)
    mode = mode_of(asked.model)
    text = next((message.text for message in reversed(asked.messages) if message.role == "user"), "")
    if not text.strip():
        raise ApiError("there is no message of the user with a text to answer", param="messages")
    answer: Answer = await service.once(request, body, partial(service.agent.ask, text, mode=mode))
    service.figures.answered([answer])
    if answer.answer is None:
        raise ApiError(
            f"nobody could answer ({answer.reason}): this device has no release yet and central is out of reach",
            status=503,
            code="no_answer",
        )
    common = {
        "id": f"chatcmpl-{answer.answer_id}",
        "created": int(service.clock()),
        "model": asked.model,
        "system_fingerprint": answer.release,
    }
    usage = _usage(text, answer.answer)
    if asked.stream:
        chunks = _chunks(common, answer, usage if asked.stream_options and asked.stream_options.include_usage else None)
        said = headers(answer, request) | {"cache-control": "no-store"}
        return StreamingResponse(chunks, media_type="text/event-stream", headers=said)
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": answer.answer, "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    completion = {**common, "object": "chat.completion", "choices": [choice], "usage": usage, "fedge": document(answer)}
    return JSONResponse(completion, headers=headers(answer, request) | echo(request))


async def _chunks(common: dict[str, Any], answer: Answer, usage: dict[str, int] | None) -> AsyncIterator[str]:
    """The answer as a stream: the role first, the label, the end; then the usage, where wanted, without choices."""
    deltas: list[tuple[dict[str, Any], str | None]] = [
        ({"role": "assistant", "content": ""}, None),
        ({"content": answer.answer}, None),
        ({}, "stop"),
    ]
    # With a usage to come, every other chunk says that it carries none.
    extra: dict[str, Any] = {} if usage is None else {"usage": None}
    for delta, finish in deltas:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        told = {"fedge": document(answer)} if finish else {}
        yield _event({**common, "object": "chat.completion.chunk", "choices": [choice], **extra, **told})
    if usage is not None:
        yield _event({**common, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    yield "data: [DONE]\n\n"


def _event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n"


def _usage(text: str, label: str) -> dict[str, int]:
    """Words in place of tokens: no tokenizer of a language model is at work here."""
    prompt, completion = len(text.split()), max(1, len(label.split()))
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _card(service: Service, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(service.figures.started_at), "owned_by": "fedge"}
