"""What the handlers share: the agent, a few threads for its blocking calls, the memory of repeated requests, the figures."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from edge_client.inference.pipeline import Agent
from edge_client.service.errors import ApiError, invalid
from edge_client.service.idempotency import Repeats
from edge_client.service.metrics import Figures

REQUEST_ID = "x-request-id"
_MAX_REQUEST_ID = 128

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Health:
    """``ready``: the device can answer something. ``missing``: what it would want and has not, by name, with the reason."""

    ready: bool
    missing: Mapping[str, str]
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The agent as the local API sees it. ``threads``: enough for the calls that wait for central; a local answer takes a
    fraction of a millisecond in one of them.
    """

    agent: Agent
    health: Callable[[], Health]
    figures: Figures
    clock: Callable[[], float]
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(32, thread_name_prefix="ask"))
    repeats: Repeats = field(default_factory=Repeats)

    async def call(self, work: Callable[[], T]) -> T:
        """Run a blocking call of the agent beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, work)

    async def once(self, request: Request, body: bytes, work: Callable[[], T]) -> T:
        """As `call`, once for all requests of one x-request-id and body."""
        key = request.headers.get(REQUEST_ID)
        if key is not None and not (0 < len(key) <= _MAX_REQUEST_ID and key.isascii()):
            raise ApiError(f"{REQUEST_ID} needs 1 to {_MAX_REQUEST_ID} ASCII characters", param=REQUEST_ID)
        result: T = await self.repeats.once(key, request.url.path.encode() + b"\0" + body, lambda: self.call(work))
        return result


async def read(model: type[M], request: Request) -> tuple[M, bytes]:
    """The request's body as ``model``, and its bytes. Raises ApiError that names what is wrong."""
    body = await request.body()
    try:
        return model.model_validate_json(body), body
    except ValidationError as error:
        raise invalid(error) from None
