"""The OpenAI-compatible part: existing clients point their base URL at the device and get a label for their last message.

Three models stand for the three ways to ask. Parameters that only a language model has (temperature, stop, seed, ...) are
taken and change nothing. A `fedge` object and headers say who answered, why, how sure and for how much.

`/v1/embeddings`: the vectors of the release's encoder, of length 1, as numbers or as base64 of little-endian float32.

Made on the device and nowhere else: no mode of asking applies, and nothing is kept of the texts.
"""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from edge_client.inference.query import Answer
from edge_client.service.context import Service, read
from edge_client.service.errors import ApiError
from edge_client.service.query_routes import document, echo, headers
from fedge.routing import Mode

MAX_INPUTS = 2048


class EmbeddingRequest(BaseModel):
    """What is read of the body. Token ids are let in so that the refusal can name the remedy."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    model: str
    input: str | Annotated[list[str], Field(min_length=1, max_length=MAX_INPUTS)] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None


async def embeddings(service: Service, request: Request) -> Response:
    """`POST /v1/embeddings`."""
    asked, body = await read(EmbeddingRequest, request)
    if mode_of(asked.model) == "central":
        raise ApiError("central embeds nothing: use fedge/auto or fedge/local-only", param="model")
    texts = _texts(asked.input)
    vectors = await service.once(request, body, partial(service.agent.embed, texts))
    if asked.dimensions not in (None, vectors.shape[1]):
        raise ApiError(f"this release's vectors have {vectors.shape[1]} dimensions, no other number", param="dimensions")
    words = sum(len(text.split()) for text in texts)
    data = [
        {"object": "embedding", "index": index, "embedding": _written(vector, asked.encoding_format)}
        for index, vector in enumerate(_unit(vectors))
    ]
    document = {
        "object": "list",
        "data": data,
        "model": asked.model,
        "usage": {"prompt_tokens": words, "total_tokens": words},
    }
    return JSONResponse(document, headers={"x-fedge-answered-by": "device"} | echo(request))


def _texts(given: str | list[Any]) -> list[str]:
    if isinstance(given, str):
        given = [given]
    texts = [text for text in given if isinstance(text, str)]
    if len(texts) != len(given) or not texts:
        raise ApiError(
            "token ids cannot be read: the device has its own features, so send texts "
            "(with LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))",
            param="input",
            code="token_ids",
        )
    if not all(text.strip() for text in texts):
        raise ApiError("an input is empty: send at least one character that is not white space", param="input")
    return texts


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)


def _written(vector: NDArray[np.float32], form: Literal["float", "base64"]) -> str | list[float]:
    if form == "float":
        return [float(value) for value in vector]
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


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
