"""`/v1/embeddings`: the vectors of the release's encoder, of length 1, as numbers or as base64 of little-endian float32.

Made on the device and nowhere else: no mode of asking applies, and nothing is kept of the texts.
"""

import base64
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edge_client.service.asking import echo
from edge_client.service.errors import ApiError
from edge_client.service.openai import mode_of
from edge_client.service.state import Service, read

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
