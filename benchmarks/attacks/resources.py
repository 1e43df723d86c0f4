"""Attacks by one enrolled member on what all members share: central's time, and the gateway's memory.

Both run real servers with real mutual TLS. The hostile member holds a valid certificate and deviates in nothing but the
number and the size of its calls.
"""

import asyncio
import random
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Event, Thread

import grpc
import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from numpy.typing import NDArray

from aggregator.central import CentralServer, CentralService, Limits, Pricing, ServerTls, serve
from aggregator.fleet.authority import Authority
from aggregator.fleet.enrollment_service import invitation
from aggregator.fleet.keys import AggregatorKeys
from aggregator.fleet.published import PublishedRevocations, publish
from aggregator.processes import ready_line
from aggregator.rounds.superlink.process import prepare_superlink
from aggregator.settings import ServerHome, ServerSettings
from benchmarks.attacks.result import AttackResult
from edge_client.flower.fleet_api import node_public_key
from edge_client.membership.channel import channel_options, credentials
from edge_client.membership.enrollment import enroll
from edge_client.settings import DeviceHome
from fedge.features import Query
from fedge.settings_text import as_toml
from fedge.wire import answer_request
from protos.fedge.central.v1 import central_pb2_grpc
from protos.fedge.central.v1.central_pb2 import PURPOSE_ESCALATION, AnswerRequest
from protos.fedge.fleet.v1 import relay_pb2, relay_pb2_grpc

_GATEWAY = """
import sys
from pathlib import Path
from aggregator.processes import run_part
from aggregator.settings import ServerHome
run_part("door", ServerHome(Path(sys.argv[1])))
"""
HONEST = 8
QUESTIONS = 4
"""How often each honest device asks."""
CALLS_IN_FLIGHT = 300
CONNECTIONS = 4
ANSWER_S = 0.02
"""What one answer takes the strong model."""
PATIENCE_S = 30.0
"""How long an honest device waits for an answer."""

UPLOADS = 60
UPLOAD_BYTES = 15 << 20
GATEWAY_BOUND_MIB = 64.0
"""How far the uploads may raise the gateway's peak memory."""
UPLOAD_S = 20.0
"""How long the hostile device holds each call."""


def starve_central(*, seed: int) -> AttackResult:
    """Ask central 300 questions at once on each of 4 connections, without a pause, while 8 honest devices ask theirs."""
    with tempfile.TemporaryDirectory() as folder, _Fleet.open(Path(folder)) as fleet:
        hostile = fleet.enroll("hostile")
        honest = [fleet.enroll(f"honest-{number}") for number in range(HONEST)]
        fleet.close_gateway()
        unanswered = asyncio.run(_starve(fleet.home, hostile, honest, random.Random(seed)))
    share = unanswered / (HONEST * QUESTIONS)
    return AttackResult(
        attack="starve_central",
        held=unanswered == 0,
        measure="damage",
        value=share,
        unit="share of honest queries without an answer",
        note=f"{CONNECTIONS} x {CALLS_IN_FLIGHT} calls in flight from one member; {HONEST} others ask {QUESTIONS} times",
    )


def fill_gateway(*, seed: int) -> AttackResult:
    """Send the gateway 60 bodies of 15 MiB at once in every form that it takes, while SuperLink reads slowly."""
    body = random.Random(seed).randbytes(UPLOAD_BYTES)
    with tempfile.TemporaryDirectory() as folder, _Fleet.open(Path(folder)) as fleet, ExitStack() as stack:
        hostile = fleet.enroll("hostile")
        stack.enter_context(_slow_superlink(fleet.home, fleet.settings.superlink_port))
        before = fleet.peak_mib()
        asyncio.run(_fill(f"localhost:{fleet.fleet_port}", hostile, body))
        grown = fleet.peak_mib() - before
    return AttackResult(
        attack="fill_gateway",
        held=grown <= GATEWAY_BOUND_MIB,
        measure="damage",
        value=round(grown, 1),
        unit="MiB of the gateway's peak memory",
        note=f"{UPLOADS} calls of {UPLOAD_BYTES >> 20} MiB at once from one member; bound {GATEWAY_BOUND_MIB:g} MiB",
    )


async def _starve(server: ServerHome, hostile: DeviceHome, honest: Sequence[DeviceHome], rng: random.Random) -> int:
    """Return how many honest queries got no answer."""
    central = await _serve_central(server)
    address = f"localhost:{central.port}"
    stop = asyncio.Event()
    attackers = [
        asyncio.create_task(_flood(address, hostile, f"{rng.getrandbits(32):08x}", stop)) for _ in range(CONNECTIONS)
    ]
    await asyncio.sleep(1.0)  # the queue fills up first
    answered = await asyncio.gather(*(_ask(address, home) for home in honest))
    stop.set()
    for attacker in attackers:
        attacker.cancel()
    await asyncio.gather(*attackers, return_exceptions=True)
    await central.stop(0.5)
    return HONEST * QUESTIONS - sum(answered)


async def _flood(address: str, home: DeviceHome, prefix: str, stop: asyncio.Event) -> None:
    device = home.settings().device_id
    async with grpc.aio.secure_channel(address, credentials(home), channel_options(None)) as channel:
        stub = central_pb2_grpc.CentralStub(channel)  # type: ignore[no-untyped-call]  # generated code

        async def ask_again_and_again(worker: int) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                key = f"{prefix}-{worker}-{number}"
                try:
                    await stub.Answer(_question(device, key), timeout=60.0)
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.05)

        await asyncio.gather(*(ask_again_and_again(worker) for worker in range(CALLS_IN_FLIGHT)))


async def _ask(address: str, home: DeviceHome) -> int:
    device, answered = home.settings().device_id, 0
    async with grpc.aio.secure_channel(address, credentials(home), channel_options(None)) as channel:
        stub = central_pb2_grpc.CentralStub(channel)  # type: ignore[no-untyped-call]  # generated code
        for number in range(QUESTIONS):
            try:
                await stub.Answer(_question(device, f"q{number}"), timeout=PATIENCE_S)
                answered += 1
            except grpc.aio.AioRpcError:
                continue
    return answered


def _question(device: str, key: str) -> AnswerRequest:
    return answer_request(
        idempotency_key=key, device_id=device, query=f"question {key}", release_id="", purpose=PURPOSE_ESCALATION
    )


class _SlowModel:
    def predict(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        time.sleep(ANSWER_S * len(queries))
        return np.full((len(queries), 2), 0.5, dtype=np.float32)


async def _serve_central(home: ServerHome) -> CentralServer:
    service = CentralService(
        model=_SlowModel(),
        model_name="slow",
        labels=("yes", "no"),
        pricing=Pricing("book", lambda query: 0.0),
        limits=Limits(max_text_bytes=1000),
        clock=time.time,
    )
    tls = ServerTls(home.tls / "server.crt", home.tls / "server.key", home.tls / "ca.crt")
    return await serve(service, tls=tls, is_revoked=PublishedRevocations(home).is_revoked)


async def _fill(address: str, home: DeviceHome, body: bytes) -> None:
    key = load_ssh_private_key(home.node_key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    proof = {
        "public_key": b64encode(node_public_key(key)).decode("ascii"),
        "timestamp": "2026-01-01T00:00:00+00:00",
        "signature": "c2ln",
    }
    path = "/v1/fleet/push-object"
    channels = [
        grpc.aio.secure_channel(
            address, credentials(home), [*channel_options(None), ("grpc.max_send_message_length", len(body) + 4096)]
        )
        for _ in range(CONNECTIONS)
    ]

    async def whole(number: int) -> None:
        stub = relay_pb2_grpc.RelayStub(channels[number % CONNECTIONS])  # type: ignore[no-untyped-call]
        await stub.Relay(relay_pb2.RelayRequest(path=path, body=body, **proof), timeout=UPLOAD_S)

    async def streamed(number: int) -> None:
        stub = relay_pb2_grpc.RelayStub(channels[number % CONNECTIONS])  # type: ignore[no-untyped-call]
        call = stub.Push(timeout=UPLOAD_S)
        head = relay_pb2.PushRequest(path=path, body_bytes=len(body))
        head.public_key, head.timestamp, head.signature = proof.values()
        await call.write(head)
        for start in range(0, len(body), 1 << 16):
            await call.write(relay_pb2.PushRequest(data=body[start : start + (1 << 16)]))
        await call.done_writing()
        await call

    forms = [whole, *([streamed] if hasattr(relay_pb2, "PushRequest") else [])]
    try:
        for form in forms:
            await asyncio.gather(*(form(number) for number in range(UPLOADS)), return_exceptions=True)
    finally:
        for channel in channels:
            await channel.close(None)


@contextmanager
def _slow_superlink(home: ServerHome, port: int) -> Iterator[None]:
    """What stands where SuperLink listens: it takes connections with SuperLink's certificate and reads 4 MiB a second."""
    files = prepare_superlink(home)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.private_key)
    stopped = Event()

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            try:
                with context.wrap_socket(self.request, server_side=True) as secure:
                    while not stopped.wait(1 / 64) and secure.recv(1 << 16):
                        pass
            except OSError:
                return

    class Server(ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("127.0.0.1", port), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            server.shutdown()
            thread.join()


@dataclass(slots=True)
class _Fleet:
    """A server's folder with a real enrollment authority, and the real gateway as a process."""

    home: ServerHome
    settings: ServerSettings
    folder: Path
    fleet_port: int
    join_port: int
    _gateway: "subprocess.Popen[str]"

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> "Iterator[_Fleet]":
        """Found the fleet and start its gateway, which ends with the block."""
        home = ServerHome(folder / "server")
        home.folder.mkdir(mode=0o700)
        ports = _free_ports(3)
        settings = ServerSettings(fleet_port=ports[0], join_port=ports[1], superlink_port=ports[2])
        home.settings_file.write_text(as_toml(settings), encoding="utf-8")
        keys = AggregatorKeys.open(home.keys)
        authority = Authority.found(
            home.authority,
            name=settings.federation,
            release_key=keys.release.public_key(),
            round_key=keys.round.public_key(),
            now=time.time(),
        )
        publish(authority, home, settings.names, now=time.time())
        command = [sys.executable, "-c", _GATEWAY, str(home.folder)]
        gateway = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert gateway.stdout is not None
            line = gateway.stdout.readline()
            if not line.startswith(ready_line("door")):
                raise RuntimeError(f"the gateway did not start: {line!r}")
            yield cls(home, settings, folder, ports[0], ports[1], gateway)
        finally:
            gateway.terminate()
            try:
                gateway.wait(30.0)
            except subprocess.TimeoutExpired:
                gateway.kill()
                gateway.wait()

    def enroll(self, name: str) -> DeviceHome:
        """Make a device a member, as a device does itself."""
        home = DeviceHome(self.folder / "devices" / name)
        authority = Authority(self.home.authority)
        enroll(invitation(authority, f"localhost:{self.join_port}", now=time.time(), lifetime_s=900.0), home, name)
        return home

    def close_gateway(self) -> None:
        """End the gateway, which is needed no more."""
        self._gateway.terminate()
        self._gateway.wait(30.0)

    def peak_mib(self) -> float:
        """Return the most resident memory that the gateway ever had."""
        lines = Path(f"/proc/{self._gateway.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]
