import asyncio
import socket
import ssl
import time
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from aggregator.fleet import heartbeat
from aggregator.fleet.authority import Authority
from aggregator.fleet.enrollment_service import invitation
from aggregator.fleet.gateway import open_door
from aggregator.fleet.keys import AggregatorKeys
from aggregator.fleet.published import publish
from aggregator.settings import ServerHome, ServerSettings
from edge_client.membership.channel import DoorChannel
from edge_client.membership.enrollment import enroll
from edge_client.settings import DeviceHome
from protos.fedge.fleet.v1 import enrolment_pb2 as pb
from protos.fedge.fleet.v1 import enrolment_pb2_grpc


class ShiftedClock:
    """The machine's time, moved by ``shift_s``: what TLS itself reads cannot be set, so a test moves the server instead."""

    def __init__(self) -> None:
        self.shift_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.shift_s


class Federation:
    """A server's folder with a real enrolment authority, whose real door runs in a thread."""

    def __init__(self, folder: Path) -> None:
        self.home = ServerHome(folder / "server")
        self.home.folder.mkdir(mode=0o700)
        self.folder = folder
        self.clock = ShiftedClock()
        self.keys = AggregatorKeys.open(self.home.keys)
        self.authority = Authority.found(
            self.home.authority,
            name="test",
            release_key=self.keys.release.public_key(),
            round_key=self.keys.round.public_key(),
            now=self.clock() - 30 * 86_400,  # so that a server whose clock is behind still has an authority
        )
        self.values = {"fleet_port": 0, "join_port": 0, "central_port": 8742}
        self.services = []
        self.ports = None

    def settings(self) -> ServerSettings:
        return ServerSettings(**self.values)

    @contextmanager
    def open(self):
        """The door, open while the block runs."""
        loop = asyncio.new_event_loop()
        thread = Thread(target=loop.run_forever, daemon=True)
        thread.start()
        door = open_door(self.home, self.settings(), services=self.services, clock=self.clock)
        try:
            self.ports = asyncio.run_coroutine_threadsafe(door.__aenter__(), loop).result()
            try:
                yield self
            finally:
                # The same ports when it opens again: devices know them.
                self.values |= {"fleet_port": self.ports.fleet_port, "join_port": self.ports.join_port}
                asyncio.run_coroutine_threadsafe(door.__aexit__(None, None, None), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def invite(self, minutes: float = 15.0):
        address = f"localhost:{self.ports.join_port}"
        return invitation(self.authority, address, now=self.clock(), lifetime_s=60 * minutes)

    def device(self, name: str) -> DeviceHome:
        return DeviceHome(self.folder / "devices" / name)

    def enroll(self, name: str, **how) -> DeviceHome:
        enroll(self.invite(), self.device(name), name, **how)
        return self.device(name)

    def ask(self, home: DeviceHome, call: str = "Revocations", request=None):
        """One call by the device in ``home`` at its door."""
        channel = DoorChannel(home, home.settings().fleet)
        try:
            stub = enrolment_pb2_grpc.EnrolmentStub(channel())
            return getattr(stub, call)(request or pb.RevocationsRequest(), timeout=20)
        finally:
            channel.close()

    def spoken(self, home: DeviceHome, port: int, version: ssl.TLSVersion) -> str | None:
        """What OpenSSL agrees on with the server at ``port`` when it offers ``version`` alone; None where it fails."""
        context = ssl.create_default_context(cafile=str(home.tls_authority))
        context.load_cert_chain(home.tls_certificate, home.tls_key)
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2"])
        try:
            with (
                socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as secure,
            ):
                return secure.version()
        except (ssl.SSLError, ConnectionError):
            return None

    def revoke(self, name: str) -> None:
        now = self.clock()
        self.authority.revoke(name, now=now, reason="stolen")
        publish(self.authority, self.home, self.settings().names, now=now)

    def publish(self) -> None:
        publish(self.authority, self.home, self.settings().names, now=self.clock())


@pytest.fixture
def closed(tmp_path):
    """A federation whose door is shut."""
    return Federation(tmp_path)


@pytest.fixture
def federation(closed):
    """A federation whose door is open."""
    with closed.open():
        yield closed


@pytest.fixture
def patient(monkeypatch):
    """Lets the door take reports that come at once: the time between them is the door's own."""
    return lambda: monkeypatch.setattr(heartbeat, "REPORT_APART_S", 0.0)


@pytest.fixture(scope="session")
def wait_for():
    """Waits for a condition, generously; gives its first truthy value."""

    def wait(condition):
        until = time.monotonic() + 30
        while not (found := condition()):
            assert time.monotonic() < until
            time.sleep(0.02)
        return found

    return wait
