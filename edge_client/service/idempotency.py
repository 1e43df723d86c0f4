"""Requests that come again under the same x-request-id: answered once, the result given to each of them.

A client that lost its connection sends its request again; asking central twice would cost twice. Only the same body counts
as the same request, only what succeeded is remembered, and only the last few. After a restart a repetition is new.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

MAX_REMEMBERED = 512


class Repeats:
    """Lives on one event loop."""

    def __init__(self, *, max_remembered: int = MAX_REMEMBERED) -> None:
        self._max_remembered = max_remembered
        self._tasks: OrderedDict[bytes, asyncio.Task[Any]] = OrderedDict()

    async def once(self, request_id: str | None, body: bytes, work: Callable[[], Awaitable[Any]]) -> Any:
        """The result of ``work``, done once for all requests of one id and body."""
        if request_id is None:
            return await work()
        key = sha256(request_id.encode() + b"\0" + body).digest()
        task = self._tasks.get(key)
        if task is None:
            task = asyncio.ensure_future(_run(work))
            self._tasks[key] = task
            while len(self._tasks) > self._max_remembered:
                self._tasks.popitem(last=False)
        try:
            # Shielded: a caller that hangs up must not take the answer from the one that comes again.
            return await asyncio.shield(task)
        except Exception:
            if self._tasks.get(key) is task:
                del self._tasks[key]
            raise


async def _run(work: Callable[[], Awaitable[Any]]) -> Any:
    return await work()
