"""The local API on a socket: loopback only, one server, stopped in peace.

The socket is opened before anything else starts, so that a taken port is one clear line.
"""

import ipaddress
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from fedge.errors import InputError
from fedge.request_deadline import REQUEST_TIMEOUT_S, with_deadline

GRACE_S = 15


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises InputError for an address beyond loopback, and for a port that cannot be had."""
    try:
        loopback = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise InputError(f"api.host is {host!r}: use a loopback address, such as 127.0.0.1") from None
    if not loopback.is_loopback:
        raise InputError(f"api.host is {host!r}: the local API has no login and listens on loopback only, such as 127.0.0.1")
    family = socket.AF_INET6 if loopback.version == 6 else socket.AF_INET
    try:
        return socket.create_server((str(loopback), port), family=family, backlog=128)
    except OSError as error:
        said = (error.strerror or str(error)).partition(" (while ")[0]
        raise InputError(f"the local API cannot listen on {host}:{port}: {said}; set api.port in device.toml") from None


def address_of(listener: socket.socket) -> str:
    """The URL of the API that is served on ``listener``."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class ApiServer(uvicorn.Server):
    """Serves one application until `stop`. Signals are left to the process."""

    def __init__(self, app: ASGIApp, *, request_timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        config = uvicorn.Config(
            app,
            log_level="warning",
            log_config=None,  # by the process's own log, in its form
            access_log=False,
            server_header=False,
            proxy_headers=False,
            http=with_deadline(AutoHTTPProtocol, request_timeout_s),
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=GRACE_S,
        )
        super().__init__(config)
        self._ready: Callable[[], None] = lambda: None

    def serve_on(self, listener: socket.socket, *, ready: Callable[[], None] = lambda: None) -> None:
        """Serve on a listening socket until `stop`; ``ready`` is called once it answers."""
        self._ready = ready
        self.run(sockets=[listener])

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """No signals: whoever runs the process stops the server."""
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        self._ready()

    def stop(self) -> None:
        """Take no new request, finish those at hand, return from `run`."""
        self.should_exit = True
