"""An ASGI application on a socket of our own, until the process is told to stop. Over TLS, a renewed certificate is taken up
for new connections while it serves.

How a process of the server hears that it is to stop: SIGTERM or SIGINT.
"""

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedge.errors import InputError
from fedge.request_deadline import REQUEST_TIMEOUT_S, with_deadline

STOPPING = (signal.SIGTERM, signal.SIGINT)


async def until_stopped(*, ready: Callable[[], None] = lambda: None) -> None:
    """Returns on SIGTERM or SIGINT. ``ready`` is called once these are heard. Belongs into the main thread."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOPPING:
        loop.add_signal_handler(number, stopped.set)
    ready()
    await stopped.wait()


GRACE_S = 2
LOOK_S = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate with its chain, and its private key without a password: PEM files."""

    certificate: Path
    key: Path

    def load(self) -> ssl.SSLContext:
        """What shows them to clients, by the standard library's choices. Raises InputError for files that cannot be read or
        do not fit together.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
        except (OSError, ValueError) as error:
            raise InputError(f"certificate {self.certificate} with key {self.key} cannot be used: {error}") from None
        return context

    def changed(self) -> tuple[int, ...]:
        """Differs once either file has been replaced or written. Raises OSError while one is missing."""
        return tuple(part for file in (self.certificate, self.key) for part in _version(file))


@contextmanager
def listening(host: str, port: int, *, named: str = "") -> Iterator[socket.socket]:
    """A listening socket of our own, so that a taken port is one clear line before anything runs; ``named`` as there."""
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        said = (error.strerror or str(error)).partition(" (while ")[0]
        raise InputError(
            f"cannot listen on {named or f'{host}:{port}'}: {said}; end what uses the port, or set another"
        ) from None
    with listener:
        yield listener


def serve_http(
    app: object,
    listener: socket.socket,
    *,
    ready: Callable[[], None],
    tls: TlsFiles | None = None,
    look_s: float = LOOK_S,
    request_timeout_s: float = REQUEST_TIMEOUT_S,
) -> None:
    """Serve an ASGI application until SIGTERM or SIGINT, and return then. ``ready`` is called once it answers.

    Plain HTTP without ``tls``; its files are looked at every ``look_s`` seconds. A request that has not arrived as a whole
    after ``request_timeout_s`` is cut off.
    """
    import uvicorn
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    shown = None if tls is None else _Shown(tls)
    context = None if shown is None else shown.context

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Uvicorn would raise the signal again after its own clean end; this process's end shall be clean, too."""
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            """Start, then say so."""
            await super().startup(sockets)
            ready()

    config = uvicorn.Config(
        app,  # type: ignore[arg-type]  # any ASGI application
        log_level="warning",
        log_config=None,  # by the process's own log, in its form
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_S,  # a reader of the stream of events never leaves by itself
        http=with_deadline(AutoHTTPProtocol, request_timeout_s),
        ws="none",
        ssl_context_factory=None if context is None else lambda *_: context,
    )
    server = Server(config)

    async def run() -> None:
        stopping = asyncio.create_task(until_stopped())
        await asyncio.sleep(0)  # so that signals are heard before anyone can know that it serves
        beside = [stopping]
        if shown is not None:
            beside.append(asyncio.create_task(shown.follow(look_s)))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        for task in beside:
            task.cancel()
        await serving

    asyncio.run(run())


class _Shown:
    """The certificate that clients see: the newest pair of files that fits together."""

    def __init__(self, tls: TlsFiles) -> None:
        self._tls = tls
        self._seen = tls.changed()
        self._newest = tls.load()
        self.context = tls.load()
        # A context that is in use keeps a certificate for each type of key: a new one is made, and each handshake takes it.
        self.context.sni_callback = self._take

    def _take(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest

    async def follow(self, look_s: float) -> None:
        """Look every ``look_s`` seconds. Whoever renews the files writes one after the other: they count once they fit."""
        while True:
            await asyncio.sleep(look_s)
            try:
                found = self._tls.changed()
            except OSError:  # one is being replaced
                continue
            if found == self._seen:
                continue
            self._seen = found
            try:
                self._newest = self._tls.load()
            except InputError as error:
                _log.warning("%s; the one before is still shown", error)
            else:
                _log.info("certificate %s was renewed: new connections see it", self._tls.certificate)


def _version(file: Path) -> tuple[int, int, int]:
    found = file.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size
