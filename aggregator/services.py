"""The server's processes, each put together from the server's folder: door, superlink, rounds, central, console.

A process says one line when it is ready, runs until SIGTERM or SIGINT, and then ends with everything it took. Each reads
only the keys that it needs. Nothing here decides anything: the parts stand in their own packages.
"""

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aggregator.settings import ServerHome, ServerSettings
from fedge.errors import InputError

PARTS = ("superlink", "door", "central", "console", "rounds")
"""In the order in which they are started; any other works as well, since each waits for those that it needs."""


def run_part(part: str, home: ServerHome) -> None:
    """Run one part until it is told to stop. Raises InputError for an unknown part, a home without `init`, a taken port."""
    runners: dict[str, Callable[[ServerHome, ServerSettings], None]] = {
        "superlink": _superlink,
        "central": _central,
        "console": _console,
    }
    if part not in PARTS:
        raise InputError(f"there is no part {part!r}: choose one of {', '.join(PARTS)}")
    if not home.settings_file.is_file():
        raise InputError(f"{home.folder} is not set up: run `fedge server init` first")
    runners[part](home, home.settings())


def ready_line(part: str) -> str:
    """How the line begins that a part prints once it serves."""
    return f"{part} is ready"


def say_ready(part: str, where: str) -> None:
    """One line on standard output."""
    print(f"{ready_line(part)}: {where}", flush=True)


async def until_stopped(*, ready: Callable[[], None] = lambda: None) -> None:
    """Returns on SIGTERM or SIGINT. ``ready`` is called once these are heard. Belongs into the main thread."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    ready()
    await stopped.wait()


def database_url(home: ServerHome, settings: ServerSettings) -> str:
    """Of the server's database."""
    return settings.database or home.database_url


def secagg_label(settings: ServerSettings) -> bool | str:
    """What every page and summary says: "demo" where so few devices may be summed that the sum hides nothing."""
    from aggregator.rounds.cohort import COHORT_FLOOR

    return "demo" if settings.rounds.n_min < COHORT_FLOOR else True


def _superlink(home: ServerHome, settings: ServerSettings) -> None:
    from aggregator.rounds.superlink import HOST, run_superlink

    with listening(HOST, settings.superlink_port):
        pass  # a taken port is one line here, and many of Flower's own
    run_superlink(home)


def _central(home: ServerHome, settings: ServerSettings) -> None:
    from aggregator.assembly import central_service
    from aggregator.central import ServerTls, serve
    from aggregator.workbench.model_store import load_facts, load_strong_model
    from fedge.costs import PriceBook

    service = central_service(load_strong_model(home.models), load_facts(home.models), PriceBook.load_default(), time.time)
    tls = ServerTls(home.tls / "server.crt", home.tls / "server.key", home.tls / "ca.crt")

    async def run() -> None:
        server = await serve(service, address=f"{settings.host}:{settings.central_port}", tls=tls)
        await until_stopped(ready=lambda: say_ready("central", f"{settings.host}:{server.port}, gRPC with mutual TLS"))
        await server.stop()

    asyncio.run(run())


def _console(home: ServerHome, settings: ServerSettings) -> None:
    from aggregator.console import create_app
    from aggregator.store import Database

    about = {
        "federation": settings.federation,
        "workload": settings.workload,
        "secagg": secagg_label(settings),
        "n_min": settings.rounds.n_min,
    }
    with Database.open(database_url(home, settings)) as database, listening("127.0.0.1", settings.console_port) as listener:
        app = create_app(database, federation=about)
        serve_http(app, listener, ready=lambda: say_ready("console", f"http://127.0.0.1:{listener.getsockname()[1]}/"))


@contextmanager
def listening(host: str, port: int, *, named: str = "") -> Iterator[socket.socket]:
    """A listening socket of our own, so that a taken port is one clear line before anything runs; ``named`` as there."""
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InputError(f"cannot listen on {named or f'{host}:{port}'}: {error.strerror or error}") from None
    with listener:
        yield listener


def serve_http(app: object, listener: socket.socket, *, ready: Callable[[], None]) -> None:
    """Serve an ASGI application until SIGTERM or SIGINT, and return then. ``ready`` is called once it answers."""
    import uvicorn

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
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
    )
    server = Server(config)

    async def run() -> None:
        stopping = asyncio.create_task(until_stopped())
        await asyncio.sleep(0)  # so that signals are heard before anyone can know that it serves
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        stopping.cancel()
        await serving

    asyncio.run(run())
