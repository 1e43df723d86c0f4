"""A joined device with a text release and a real central over mutual TLS; its agent serves from a thread of this process."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from aggregator.central import serve_in_thread
from benchmarks.local_device import Fleet, central_service
from edge_client.daemon import AgentProcess, Plugs
from edge_client.settings import DeviceHome

WAIT_S = 60.0
BUCKETS = 256


def _wait_for(condition: Callable[[], Any], what: str) -> Any:
    """The first truthy value of ``condition``."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {WAIT_S} s for {what}")


@dataclass
class Api:
    """A running agent and a plain HTTP client of it."""

    process: AgentProcess | None
    url: str

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        parts = urlsplit(self.url)
        connection = HTTPConnection(parts.hostname, parts.port, timeout=WAIT_S)
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path, sent, {"content-type": "application/json", **(headers or {})})
        response = connection.getresponse()
        raw = response.read()
        said = {name.lower(): value for name, value in response.getheaders()}
        connection.close()
        return response.status, json.loads(raw) if "json" in said.get("content-type", "") else {"text": raw.decode()}, said

    def ask(self, query: Any = "turn off the lights", **fields: Any) -> dict[str, Any]:
        status, answer, _ = self.call("POST", "/v1/ask", {"query": query, **fields})
        assert status in (200, 202), answer
        return answer


@dataclass
class World:
    """One fleet in a folder. ``central`` serves while it is up, always on the same port."""

    folder: Path
    fleet: Fleet
    service: Any
    port: int = 0

    @contextmanager
    def central(self) -> Iterator[int]:
        with serve_in_thread(
            self.service, tls=self.fleet.server_tls(), grace_s=0.2, address=f"127.0.0.1:{self.port}"
        ) as self.port:
            yield self.port

    def home(
        self, name: str = "home", *, threshold: float | None = 0.01, release: bool = True, settings: tuple = ()
    ) -> DeviceHome:
        home = DeviceHome(self.folder / name)
        lines = [*(settings or ("central_timeout_s = 20.0",)), "[api]", "port = 0", "[node]", 'mode = "off"']
        self.fleet.join(home, central=f"localhost:{self.port}", now=time.time(), settings=lines)
        if release:
            self.fleet.install(home, self.fleet.make_release(buckets=BUCKETS), threshold=threshold, now=time.time())
        return home

    @contextmanager
    def agent(self, home: DeviceHome, plugs: Plugs | None = None) -> Iterator[Api]:
        process = AgentProcess(home, plugs=plugs)
        urls: list[str] = []
        up = threading.Event()

        def ready(url: str) -> None:
            urls.append(url)
            up.set()

        thread = threading.Thread(target=lambda: process.serve(ready=ready))
        thread.start()
        try:
            assert up.wait(WAIT_S)
            yield Api(process, urls[0])
        finally:
            process.stop()
            thread.join(WAIT_S)
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def wait_for() -> Callable[[Callable[[], Any], str], Any]:
    """Waits for a condition, generously."""
    return _wait_for


@pytest.fixture(scope="session")
def make_api() -> Callable[[str], Api]:
    """A client of an agent in another process."""
    return lambda url: Api(None, url)


@pytest.fixture(scope="module")
def make_world(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], World]:
    def make() -> World:
        folder = tmp_path_factory.mktemp("world")
        return World(folder, Fleet.make(folder / "fleet"), central_service(time.time))

    return make


@pytest.fixture(scope="module")
def world(make_world: Callable[[], World]) -> World:
    return make_world()


@pytest.fixture(scope="module")
def local(world: World) -> Iterator[Api]:
    """An agent that answers everything itself unless asked otherwise; central is up."""
    with world.central(), world.agent(world.home()) as api:
        yield api
