"""What keeps web pages and oversized bodies out of the local API. A plain ASGI layer around it.

The API has no login: whoever runs programs on the device may use it. A browser runs other people's programs, so a request
must name a loopback host (a page that rebinds its own name to 127.0.0.1 still sends that name), may carry no foreign origin,
and must say that its body is JSON (which a page cannot send across sites without asking first, and nobody here says yes).
"""

import ipaddress
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_client.service.errors import ApiError

MAX_BODY_BYTES = 1 << 20


class Guard:
    """Refuses before anything is read or parsed."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            _check(scope, self._max_body_bytes)
            body = await _body(receive, self._max_body_bytes) if scope["method"] == "POST" else b""
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)


def _check(scope: Scope, max_body_bytes: int) -> None:
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    if not _is_loopback(headers.get(b"host", "")):
        raise ApiError(
            f"the host {headers.get(b'host', '')[:100]!r} is not this machine's loopback: use http://127.0.0.1",
            status=403,
            code="foreign_host",
        )
    origin = headers.get(b"origin")
    if origin is not None and not _is_loopback(urlsplit(origin).netloc):
        raise ApiError(f"requests of pages from {origin[:100]!r} are not taken", status=403, code="foreign_origin")
    if headers.get(b"sec-fetch-site") == "cross-site":
        raise ApiError("requests of other sites' pages are not taken", status=403, code="foreign_origin")
    if scope["method"] == "POST":
        kind = headers.get(b"content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise ApiError(f"the body is {kind[:60] or 'of no type'!r}: send application/json", status=415, code="not_json")
        length = headers.get(b"content-length", "")
        if length.isdecimal() and int(length) > max_body_bytes:
            raise _too_large(max_body_bytes)


def _is_loopback(netloc: str) -> bool:
    """Whether ``host`` or ``host:port`` names this machine's loopback."""
    try:
        host = urlsplit(f"//{netloc}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _body(receive: Receive, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size_bytes = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        part = message.get("body", b"")
        size_bytes += len(part)
        if size_bytes > max_bytes:
            raise _too_large(max_bytes)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(f"the body has more than {max_bytes} bytes", status=413, code="too_large")
