"""Which names the console answers to: those of its settings, and on loopback those of loopback.

The name matters because a browser lends its place on this machine to any page: one whose own name is made to point at
127.0.0.1 (DNS rebinding) would else read everything here.
"""

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from aggregator.console.auth.policy import AccessPolicy
from aggregator.console.shell.errors import refusal
from aggregator.console.shell.hosts import named_host


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
