"""How a process of the server hears that it is to stop: SIGTERM or SIGINT."""

import asyncio
import signal
from collections.abc import Callable

STOPPING = (signal.SIGTERM, signal.SIGINT)


async def until_stopped(*, ready: Callable[[], None] = lambda: None) -> None:
    """Returns on SIGTERM or SIGINT. ``ready`` is called once these are heard. Belongs into the main thread."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOPPING:
        loop.add_signal_handler(number, stopped.set)
    ready()
    await stopped.wait()
