"""No request's body is larger than anything that the console takes, whoever sends it and whichever route would read it."""

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aggregator.console.shell.errors import refusal

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
