"""No request's body is larger than anything that the console takes, whoever sends it and whichever route would read it.

Which names the console answers to: those of its settings, and on loopback those of loopback.

The name matters because a browser lends its place on this machine to any page: one whose own name is made to point at
127.0.0.1 (DNS rebinding) would else read everything here.
"""

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aggregator.console.auth.policy import AccessPolicy, named_host
from aggregator.console.errors import refusal


class AddressedHere:
    """Refuses a request for another name, before anything else looks at it."""

    def __init__(self, app: ASGIApp, *, policy: AccessPolicy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http":
            request = Request(scope, receive)
            if not self._policy.answers_to(named_host(request.headers.get("host", ""))):
                await refusal(request, 400, self._said())(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _said(self) -> str:
        if self._policy.names:
            return "the console does not answer to this name: console.names in server.toml lists those that it answers to"
        return "the console answers on this machine's loopback address only, such as http://127.0.0.1"


MAX_BODY_BYTES = 1 << 20


class _TooLarge(Exception):  # noqa: N818 - what became of a request
    pass


class BodyLimit:
    """Counts what arrives, also where no length was announced."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length, answered = 0, False

        async def counted() -> Message:
            nonlocal length
            message = await receive()
            length += len(message.get("body", b""))
            if length > MAX_BODY_BYTES:
                raise _TooLarge
            return message

        async def sent(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self._app(scope, counted, sent)
        except _TooLarge:
            if not answered:
                said = f"a request has at most {MAX_BODY_BYTES} bytes"
                await refusal(Request(scope), 413, said, {"Connection": "close"})(scope, receive, send)
