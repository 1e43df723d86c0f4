"""One POST to upstream over HTTP: bounded in time and size, tried again where that can help, redirects never followed.

A try ends after `timeout_s` however slowly bytes drip, and all of them together at the caller's deadline. Tried again are
429, 408, 5xx and time-outs only, after Retry-After where upstream says so. Errors carry an outcome's name, never a header,
a body or a library's own words: the key and the query cannot get into a log through them.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self

import httpx

from aggregator.central.upstream.endpoint import Endpoint
from aggregator.central.upstream.outcomes import (
    INVALID,
    RATE_LIMITED,
    REDIRECTED,
    REJECTED,
    TIMEOUT,
    UNAUTHORIZED,
    UNAVAILABLE,
    UNREACHABLE,
)
from fedge.errors import FedgeError

MAX_TRIES = 3
MAX_BODY_BYTES = 1 << 20
LEAST_TRY_S = 0.05
_AFTER_WORK = frozenset({500, 502, 504})
"""What a gateway says when the model may have worked, and be paid, all the same."""
_RETRIED = frozenset({RATE_LIMITED, UNAVAILABLE, TIMEOUT})
_FIRST_WAIT_S, _MAX_WAIT_S = 0.25, 2.0


class UpstreamFailed(FedgeError):  # noqa: N818 - an outcome, not only an error
    """No reply. ``unseen``: tries that upstream may have billed although nothing usable came back."""

    def __init__(
        self, outcome: str, *, billed: bool = False, retry_after_s: float | None = None, complaint: str = ""
    ) -> None:
        super().__init__(f"upstream gave no reply: {outcome}")
        self.outcome = outcome
        self.unseen = int(billed)
        self.retry_after_s = retry_after_s
        self.complaint = complaint
        """What upstream says is wrong with the request, to look for an option's name in it. Never logged."""


@dataclass(frozen=True, slots=True)
class Received:
    """A reply's body, and how many tries before it may have been billed."""

    body: bytes
    unseen: int = 0


class ChatClient:
    """Posts to one endpoint. Belongs to the event loop on which it is used."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout_s: float,
        max_concurrent: int,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._url = endpoint.url
        self._timeout_s = timeout_s
        self._clock = clock
        self._wall = wall
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries in time, decides nothing
        self._http = httpx.AsyncClient(
            headers={**endpoint.headers, "content-type": "application/json", "accept-encoding": "identity"},
            follow_redirects=False,  # the key and the query are for this address alone
            trust_env=not endpoint.is_plain,  # proxies are for https; what is on this machine or this net needs none
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=max_concurrent, max_keepalive_connections=max_concurrent),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def post(self, body: bytes, *, headers: Mapping[str, str], deadline: float) -> Received:
        """The reply's body. ``deadline``: on ``clock``, for all tries together. Raises UpstreamFailed."""
        unseen = 0
        for tries in range(1, MAX_TRIES + 1):
            try:
                return Received(await self._once(body, headers, deadline), unseen)
            except UpstreamFailed as failure:
                failure.unseen = unseen = unseen + failure.unseen
                wait_s = failure.retry_after_s
                if wait_s is None:
                    wait_s = self._rng.uniform(0.0, min(_MAX_WAIT_S, _FIRST_WAIT_S * 2.0 ** (tries - 1)))
                late = self._clock() + wait_s + LEAST_TRY_S >= deadline
                if failure.outcome not in _RETRIED or tries == MAX_TRIES or late:
                    raise
            await asyncio.sleep(wait_s)
        raise AssertionError("unreachable: the last try returns or raises")

    async def _once(self, body: bytes, headers: Mapping[str, str], deadline: float) -> bytes:
        try:
            async with asyncio.timeout(max(0.0, min(self._timeout_s, deadline - self._clock()))):
                async with self._http.stream("POST", self._url, content=body, headers=dict(headers)) as response:
                    return await self._read(response)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise UpstreamFailed(UNREACHABLE) from None
        except (TimeoutError, httpx.TimeoutException):
            raise UpstreamFailed(TIMEOUT, billed=True) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError):
            raise UpstreamFailed(UNREACHABLE, billed=True) from None

    async def _read(self, response: httpx.Response) -> bytes:
        status = response.status_code
        if status == 200:
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json" or response.headers.get("content-encoding", "identity") != "identity":
                raise UpstreamFailed(INVALID, billed=True)
            return await _capped(response)
        if 300 <= status < 400:
            raise UpstreamFailed(REDIRECTED)
        if status in (401, 403):
            raise UpstreamFailed(UNAUTHORIZED)
        if status == 429:
            raise UpstreamFailed(RATE_LIMITED, retry_after_s=self._retry_after_s(response))
        if status == 408 or status >= 500:
            billed = status in _AFTER_WORK
            raise UpstreamFailed(UNAVAILABLE, billed=billed, retry_after_s=self._retry_after_s(response))
        complaint = (await _capped(response)).decode(errors="replace") if status in (400, 422) else ""
        raise UpstreamFailed(REJECTED, complaint=complaint)

    def _retry_after_s(self, response: httpx.Response) -> float | None:
        """Seconds or a date; None where neither can be read."""
        said = response.headers.get("retry-after", "").strip()
        if said.isascii() and said.isdigit() and len(said) < 10:
            return float(said)
        try:
            return max(0.0, parsedate_to_datetime(said).timestamp() - self._wall())
        except (ValueError, TypeError, OverflowError, IndexError):
            return None


async def _capped(response: httpx.Response) -> bytes:
    found = bytearray()
    async for part in response.aiter_raw():
        found += part
        if len(found) > MAX_BODY_BYTES:
            raise UpstreamFailed(INVALID, billed=response.status_code == 200)
    return bytes(found)
