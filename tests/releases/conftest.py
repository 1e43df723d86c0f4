"""A fleet in small: a registry and a TUF repository, the real release service on loopback, devices that trust its root."""

import asyncio
import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from aggregator.releases.registry import ReleaseRegistry
from aggregator.releases.service import add_releases
from aggregator.releases.tuf_repository import Lifetimes, TufRepository
from edge_client.releases.tuf_source import TufSource
from edge_client.settings import DeviceHome


def _load(path: Path):
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_TESTS = Path(__file__).parent.parent
_parts = _load(_TESTS / "edge_client" / "conftest.py")
release_key, make_release, certify = _parts.release_key, _parts.make_release, _parts.certify
make_bench = _parts.make_bench


@pytest.fixture(scope="session")
def parts():
    """The module ``parts.py`` of the tests of a single release."""
    return _load(_TESTS / "release" / "parts.py")


class Door:
    """A gRPC server on loopback in a thread of its own, for any service."""

    def __init__(self, register: Callable[[grpc.aio.Server], None]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = self._do(self._start(register))
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")

    def stop(self) -> None:
        self.channel.close()
        self._do(self._server.stop(None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self, register: Callable[[grpc.aio.Server], None]) -> int:
        self._server = grpc.aio.server()
        register(self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return port

    def _do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)


@dataclass
class Clock:
    now: float = field(default_factory=time.time)

    def __call__(self) -> float:
        return self.now


@dataclass
class Server:
    folder: Path
    registry: ReleaseRegistry
    tuf: TufRepository
    clock: Clock
    door: Door | None = None

    def publish(self, release, *, promote: bool = True, certificate=None) -> str:
        release_id = self.registry.publish(release, at=self.clock())
        if certificate is not None:
            self.registry.add_certificate(certificate, at=self.clock())
        if promote:
            self.registry.promote(release_id, at=self.clock(), reason="test")
        self.tuf.publish(self.registry)
        return release_id

    def open(self, register: Callable[[grpc.aio.Server], None] | None = None) -> None:
        """Open the door, or another one in its place."""
        self.close()
        self.door = Door(register or (lambda grpc_server: add_releases(grpc_server, self.tuf.public)))

    def channel(self) -> grpc.Channel:
        return self.door.channel if self.door else self.last_channel

    def close(self) -> None:
        if self.door is not None:
            self.last_channel = self.door.channel
            self.door.stop()
        self.door = None

    def device(self, folder: Path, device_id: str = "device-1") -> TufSource:
        home = DeviceHome(folder)
        home.tuf.mkdir(parents=True, exist_ok=True)
        if not (home.tuf / "root.json").exists():
            (home.tuf / "root.json").write_bytes(self.tuf.root())
        return TufSource(home, self.channel, device_id)


@pytest.fixture(scope="session")
def device_parts():
    """The module of the device tests' own parts."""
    return _parts


@pytest.fixture(scope="session")
def rounds_parts():
    """The module of the rounds' tests: a small world of tiny devices."""
    return _load(_TESTS / "rounds" / "test_session.py")


@pytest.fixture(scope="session")
def participant_parts():
    """The module of the participants' tests: real devices in real sessions."""
    return _load(_TESTS / "edge_client" / "test_participant.py")


@pytest.fixture(scope="session")
def fleet_parts():
    """The module of the fleet tests' own parts: a federation with a real authority and a real door."""
    return _load(_TESTS / "fleet" / "conftest.py")


@pytest.fixture
def server(tmp_path, release_key) -> Iterator[Server]:
    folder, clock = tmp_path / "server", Clock()
    registry = ReleaseRegistry(folder / "registry", release_key.public_key())
    tuf = TufRepository(folder / "tuf", lifetimes=Lifetimes(), clock=clock)
    tuf.create()
    started = Server(folder, registry, tuf, clock)
    started.open()
    yield started
    started.close()
