"""One POST to upstream over HTTP: bounded in time and size, tried again where that can help, redirects never followed.

A try ends after `timeout_s` however slowly bytes drip, and all of them together at the caller's deadline. Tried again are
429, 408, 5xx and time-outs only, after Retry-After where upstream says so. Errors carry an outcome's name, never a header,
a body or a library's own words: the key and the query cannot get into a log through them.

Where upstream stands and the key for it, checked before anything is sent.

The rule: https anywhere; http only to `localhost` or to an address, written as a number, that is loopback or private; and
a key travels over http on loopback alone. Names are not looked up: a name says nothing about who else reads the line.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx

from aggregator.central.upstream.budget import (
    INVALID,
    RATE_LIMITED,
    REDIRECTED,
    REJECTED,
    TIMEOUT,
    UNAUTHORIZED,
    UNAVAILABLE,
    UNREACHABLE,
)
from fedge.errors import FedgeError, InputError
from fedge.identity.files import read_secret_line


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``url``: of the chat completions. ``key``: never shown, in no form of this value."""

    url: str
    key: str | None = field(default=None, repr=False)
    is_plain: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """With every request."""
        return {} if self.key is None else {"authorization": f"Bearer {self.key}"}


def endpoint(base: str, key_file: Path | None) -> Endpoint:
    """The endpoint under an OpenAI client's base URL, such as http://127.0.0.1:8080/v1. Raises InputError."""
    is_plain, is_loopback = _checked(base)
    if key_file is not None and is_plain and not is_loopback:
        raise InputError(f"upstream.url is {base}: a key would be sent in the clear: use https, or no api_key_file")
    key = None if key_file is None else read_secret_line(key_file)
    return Endpoint(f"{base.rstrip('/')}/chat/completions", key, is_plain)


def _checked(base: str) -> tuple[bool, bool]:
    """Whether it is plain http, and whether it is on loopback. Raises InputError."""
    try:
        parts = urlsplit(base)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InputError("upstream.url cannot be read: give a base URL such as http://127.0.0.1:8080/v1") from None
    if parts.username is not None or parts.password is not None:
        raise InputError("upstream.url holds a user or a password: the key belongs into upstream.api_key_file")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or not base.isprintable():
        raise InputError(f"upstream.url is {base!r}: give a base URL such as http://127.0.0.1:8080/v1, without a query")
    try:
        address = ip_address(host)
    except ValueError:
        is_loopback = is_near = host == "localhost"
    else:
        is_loopback = address.is_loopback
        is_near = is_loopback or (address.is_private and not address.is_link_local and not address.is_unspecified)
    if parts.scheme == "http" and not is_near:
        raise InputError(
            f"upstream.url is {base}: queries would be sent in the clear: use https; "
            "http is for localhost and for loopback or private addresses written as numbers"
        )
    return parts.scheme == "http", is_loopback


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
