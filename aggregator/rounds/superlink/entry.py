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
from flwr.superlink import extensions
from flwr.superlink.cli.flower_superlink import flower_superlink
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from aggregator.rounds.superlink.direct import Direct, remember_proofs
from aggregator.rounds.superlink.process import SECRET_FILE
from fedge.flower import FLEET_PREFIX, check_flower

GUARD_HEADER = "fedge-superlink"


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


def main() -> None:
    """Run the SuperLink with the command's own arguments."""
    check_flower(version("flwr"))
    secret = Path(os.environ[SECRET_FILE]).read_text(encoding="ascii").strip()
    # Flower asks its extensions for middleware; there is no public place to give one.
    setattr(extensions, "get_middleware", lambda: (Middleware(Guard, secret=secret), Middleware(Direct)))  # noqa: B010
    setattr(uvicorn.config, "create_ssl_context", _only_tls13(uvicorn.config.create_ssl_context))  # noqa: B010
    remember_proofs()
    setattr(uvicorn.Server, "startup", _announced(uvicorn.Server.startup))  # noqa: B010
    # Uvicorn stops on SIGTERM and raises the signal again when it has: by then, as before it serves, that is a clean end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    flower_superlink()


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
