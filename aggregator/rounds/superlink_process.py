"""The SuperLink process's own entry: Flower's command with a guard in front of it.

Flower's Control API has no login, and whoever reaches it may register nodes and start runs. Here every route but those for
nodes wants a secret that only the rounds process can read, so that neither a device nor another user of this machine gets
in. TLS below 1.3 is refused. What nodes say is checked by Flower itself, against the registered keys.
"""

import hmac
import os
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvicorn
import uvicorn.config
from flwr.superlink import main as superlink
from flwr.superlink.cli.flower_superlink import flower_superlink
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from aggregator.rounds.superlink import SECRET_FILE
from fedge.flower import FLEET_PREFIX, check_flower

GUARD_HEADER = "fedge-superlink"


CONTROL_PREFIX = "/v1/control/"
RUNTIME_PREFIX = "/v1/runtime/"
# Flower passes each request through middleware that looks at the path and does nothing for most of them, at a good half
# millisecond of processor time each: here a request only meets what is about its path.
_ABOUT = {
    "ControlSensitiveResponseMiddleware": CONTROL_PREFIX,
    "ControlAuthenticationMiddleware": CONTROL_PREFIX,
    "ControlLicenseMiddleware": CONTROL_PREFIX,
    "ControlEventLogMiddleware": CONTROL_PREFIX,
    "RuntimeTracingMiddleware": RUNTIME_PREFIX,
    "NodeAuthMiddleware": FLEET_PREFIX,
    "FleetEventLogMiddleware": FLEET_PREFIX,
}


class Guard:
    """Lets requests through that are for nodes' routes or carry the secret."""

    def __init__(self, app: ASGIApp, *, secret: str) -> None:
        self._app = app
        self._secret = secret.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 403 to anyone else."""
        if scope["type"] == "http" and not scope["path"].startswith(FLEET_PREFIX):
            given = dict(scope["headers"]).get(GUARD_HEADER.encode(), b"")
            if not hmac.compare_digest(given, self._secret):
                await PlainTextResponse("only the rounds process may ask for this", 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class OnlyFor:
    """A middleware that is met by requests under a prefix alone."""

    def __init__(self, app: ASGIApp, *, prefix: str, middleware: Callable[..., ASGIApp]) -> None:
        self._app = app
        self._prefix = prefix
        self._inner = middleware(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Through the middleware, or past it."""
        about = scope["type"] == "http" and scope["path"].startswith(self._prefix)
        await (self._inner if about else self._app)(scope, receive, send)


def main() -> None:
    """Run the SuperLink with the command's own arguments."""
    check_flower(version("flwr"))
    secret = Path(os.environ[SECRET_FILE]).read_text(encoding="ascii").strip()
    all_middleware = superlink._get_middleware
    # There is no public place to give middleware.
    setattr(superlink, "_get_middleware", lambda: _guarded(secret, all_middleware()))  # noqa: B010
    setattr(uvicorn.config, "create_ssl_context", _only_tls13(uvicorn.config.create_ssl_context))  # noqa: B010
    setattr(uvicorn.Server, "startup", _announced(uvicorn.Server.startup))  # noqa: B010
    # Uvicorn stops on SIGTERM and raises the signal again when it has: by then, as before it serves, that is a clean end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    flower_superlink()


def _guarded(secret: str, given: list[Middleware]) -> list[Middleware]:
    """The guard in front of Flower's own middleware; one that is not in the table is met by every request."""
    return [Middleware(Guard, secret=secret), *map(_narrowed, given)]


def _narrowed(given: Middleware) -> Middleware:
    prefix = _ABOUT.get(getattr(given.cls, "__name__", ""))
    if prefix is None or given.args or given.kwargs:
        return given
    return Middleware(OnlyFor, prefix=prefix, middleware=given.cls)


def _announced(startup: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Says one line once the port is open."""

    async def announced(server: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        await startup(server, sockets)
        if server.started:
            print(f"superlink is ready: {server.config.host}:{server.config.port}, on loopback only", flush=True)

    return announced


def _only_tls13(create: Callable[..., ssl.SSLContext]) -> Callable[..., ssl.SSLContext]:
    def context(*args: Any, **kwargs: Any) -> ssl.SSLContext:
        made = create(*args, **kwargs)
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        return made

    return context


if __name__ == "__main__":
    main()
