"""The fleet's door: the one network entrance for devices beside central. TLS 1.3 only, on two ports.

The fleet port wants a client certificate of every caller and carries all services; revoked devices and certificates past
their end are turned away on each call. The joining port asks for none and carries nothing but joining, for those who have no
valid certificate yet. The door never signs by itself: the enrolment authority behind it does.

TLS for what serves devices, from files that are read again when they change: a renewed certificate or a new authority
counts from the next connection on, without a restart.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from aggregator.fleet.authentication import Admission, Interceptor
from aggregator.fleet.authority import Authority
from aggregator.fleet.enrollment_service import Clock, EnrolmentServicer, JoiningServicer, Where
from aggregator.fleet.heartbeat import PresenceServicer
from aggregator.fleet.limits import CallsInFlight
from aggregator.fleet.published import PublishedRevocations, publish
from aggregator.settings import LimitsSettings, ServerHome, ServerSettings
from fedge.errors import FedgeError, InputError
from fedge.identity.files import read_file
from fedge.tls13 import is_assured
from protos.fedge.fleet.v1 import enrolment_pb2_grpc, presence_pb2_grpc


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM files: the server's certificate and key, and the authorities that sign devices."""

    certificate: Path
    private_key: Path
    client_authority: Path

    def credentials(self, *, client_certificates: bool = True) -> grpc.ServerCredentials:
        """Credentials that follow the files. Raises InputError when one cannot be read now; later, the last good ones stay.

        ``client_certificates``: whether every client must show one (mutual TLS). Without it none is asked for.
        """
        if not is_assured():
            raise InputError("gRPC was imported before fedge, so TLS 1.2 cannot be refused: import aggregator first")
        fetch = self._fetcher()
        first = fetch()
        if first is None:
            first = self._load()
        follow: Any = fetch  # the stubs do not know that None stands for "as before"
        return grpc.dynamic_ssl_server_credentials(first, follow, require_client_authentication=client_certificates)

    def _load(self) -> grpc.ServerCertificateConfiguration:
        pair = read_file(self.private_key), read_file(self.certificate)
        return grpc.ssl_server_certificate_configuration([pair], read_file(self.client_authority))

    def _fetcher(self) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
        """Asked by gRPC at each new connection: the new files, or None where nothing changed or they are not readable."""
        seen: object = None

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal seen
            try:
                stamp = [
                    (found.st_mtime_ns, found.st_ino)
                    for found in (path.stat() for path in (self.certificate, self.private_key, self.client_authority))
                ]
                if stamp == seen:
                    return None
                configuration = self._load()
            except (OSError, InputError):
                return None
            seen = stamp
            return configuration

        return fetch


Registration = Callable[[grpc.aio.Server], None]
"""Adds a service to a server."""

MAX_REQUEST_BYTES = 256 * 1024
"""What one message of a device weighs at most: gRPC gathers it before anyone can say no. Larger bodies come in pieces."""
MAX_MESSAGE_BYTES = 16 << 20
READ_AHEAD_BYTES = 256 * 1024
"""What a call may send ahead of being read. Without a bound gRPC raises it on fast connections, megabytes for each call."""
MAX_JOINING_BYTES = 64 << 10
JOINING_STREAMS = 8
KEEP_EVERY_S = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Door:
    """A running server. Belongs to the event loop it was started on."""

    port: int
    server: grpc.aio.Server
    _health: Any

    async def stop(self, grace_s: float = 5.0) -> None:
        """Says NOT_SERVING, takes no new call, gives running ones `grace_s` to end, then cuts them off."""
        await self._health.enter_graceful_shutdown()
        await self.server.stop(grace_s)


async def serve_door(
    address: str,
    tls: ServerTls,
    *,
    services: Sequence[Registration],
    is_revoked: Callable[[str], bool],
    clock: Clock,
    limits: LimitsSettings | None = None,
) -> Door:
    """Serves ``services`` and health over mutual TLS on ``host:port`` (port 0: any free one). Raises InputError."""
    bounds = limits or LimitsSettings()
    calls = CallsInFlight(per_device=bounds.gateway_calls_per_device, total=bounds.gateway_calls, setting="gateway")
    admission = Admission(is_revoked=is_revoked, clock=clock, calls=calls)
    return await _serve(
        address,
        tls.credentials(),
        services,
        [admission],
        max_request_bytes=MAX_REQUEST_BYTES,
        streams=bounds.streams_per_connection,
    )


async def serve_joining(address: str, tls: ServerTls, *, services: Sequence[Registration]) -> Door:
    """Serves ``services`` and health without client certificates: for joining alone. Raises InputError."""
    credentials = tls.credentials(client_certificates=False)
    return await _serve(
        address, credentials, services, [], max_request_bytes=MAX_JOINING_BYTES, streams=JOINING_STREAMS
    )


@dataclass(frozen=True, slots=True)
class OpenDoor:
    """The ports on which the door's two sides are served."""

    fleet_port: int
    join_port: int


@asynccontextmanager
async def open_door(
    home: ServerHome,
    settings: ServerSettings,
    *,
    services: Sequence[Registration] = (),
    clock: Clock,
    keep_every_s: float = KEEP_EVERY_S,
) -> AsyncIterator[OpenDoor]:
    """The whole door of a server: enrolment, reports and ``services``, and what the authority publishes kept up to date."""
    authority = Authority(home.authority)
    publish(authority, home, settings.names, now=clock())
    tls = ServerTls(home.tls / "server.crt", home.tls / "server.key", home.tls / "ca.crt")
    lifetime_s = settings.certificate_hours * 3600.0
    member = EnrolmentServicer(authority, lifetime_s=lifetime_s, clock=clock)
    reports = PresenceServicer(authority.note_reports, clock=clock)
    fleet = await serve_door(
        f"{settings.host}:{settings.fleet_port}",
        tls,
        services=[
            _registration(enrolment_pb2_grpc.add_EnrolmentServicer_to_server, member),
            _registration(presence_pb2_grpc.add_PresenceServicer_to_server, reports),
            *services,
        ],
        is_revoked=PublishedRevocations(home).is_revoked,
        clock=clock,
        limits=settings.limits,
    )
    try:
        where = Where(settings.federation, fleet.port, settings.central_port, home.tuf / "repository" / "metadata")
        newcomer = JoiningServicer(authority, where, lifetime_s=lifetime_s, clock=clock)
        add = _registration(enrolment_pb2_grpc.add_JoiningServicer_to_server, newcomer)
        joining = await serve_joining(f"{settings.host}:{settings.join_port}", tls, services=[add])
        keeper = asyncio.create_task(_keep(authority, home, settings.names, clock, keep_every_s))
        try:
            yield OpenDoor(fleet.port, joining.port)
        finally:
            keeper.cancel()
            await joining.stop()
    finally:
        await fleet.stop()


async def _keep(authority: Authority, home: ServerHome, names: tuple[str, ...], clock: Clock, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            await asyncio.to_thread(publish, authority, home, names, now=clock())
        except FedgeError as error:  # a full disk, say: what is published stays, and the next minute tries again
            _log.error("the door cannot publish: %s", error)


def _registration(add: Callable[[Any, Any], None], servicer: object) -> Registration:
    return lambda server: add(servicer, server)


async def _serve(
    address: str,
    credentials: grpc.ServerCredentials,
    services: Sequence[Registration],
    interceptors: Sequence[Interceptor],
    *,
    max_request_bytes: int,
    streams: int,
) -> Door:
    server = grpc.aio.server(
        interceptors=list(interceptors),
        options=[
            ("grpc.max_receive_message_length", max_request_bytes),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_concurrent_streams", streams),
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", READ_AHEAD_BYTES),
            ("grpc.so_reuseport", 0),  # a second door on the same port must fail, not share the calls
        ],
    )
    for register in services:
        register(server)
    status = health.aio.HealthServicer()  # type: ignore[attr-defined]  # grpc-stubs knows the synchronous one only
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise InputError(f"cannot listen on {address}: is the port taken, or the TLS key not the certificate's?") from error
    await server.start()
    await status.set("", health_pb2.HealthCheckResponse.SERVING)
    return Door(port, server, status)
