"""Which names the console answers to. On loopback, that is a loopback name only.

The name matters because a browser lends its place on this machine to any page: one whose own name is made to point at
127.0.0.1 (DNS rebinding) would else read everything here. Never reads the store.
"""

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from aggregator.console.shell.errors import refusal


def is_loopback(host: str) -> bool:
    """Whether ``host`` is ``localhost`` or an address of the loopback interface. Looks no name up."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def named_host(host_header: str) -> str:
    """The name or address in a Host header (with or without a port), in small letters; empty where there is none."""
    try:
        return (urlsplit(f"//{host_header}").hostname or "").lower()
    except ValueError:  # brackets that enclose no address
        return ""


class AddressedHere:
    """Refuses a request for another name, before anything else looks at it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http":
            request = Request(scope, receive)
            if not is_loopback(named_host(request.headers.get("host", ""))):
                said = "the console answers on this machine's loopback address only, such as http://127.0.0.1"
                await refusal(request, 400, said)(scope, receive, send)
                return
        await self._app(scope, receive, send)
