"""Starts and stops the fallback service on a port: mutual TLS, or no TLS on loopback only; health; reflection; size caps.

TLS is 1.3 alone (`fedge.tls13`). gRPC's BoringSSL takes no Ed25519 key for a server or a client (handshake:
NO_COMMON_SIGNATURE_ALGORITHMS), only for the authority: use ECDSA P-256.

The fallback service as gRPC: errors become status codes with one clear line, deadlines are honoured, callers are checked.

Never decides anything about an answer: that is service.py.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any, NoReturn, Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from aggregator.central.batching import MicroBatcher
from aggregator.central.errors import (
    CentralError,
    DeadlinePassedError,
    DeviceRefusedError,
    KeyReusedError,
    LedgerFailedError,
    ModelFailedError,
    OverloadedError,
    RequestRefusedError,
)
from aggregator.central.service import CentralService
from aggregator.fleet.authentication import Admission, abort_for_later, check_speaks_for_itself, nobody
from aggregator.fleet.gateway import ServerTls
from aggregator.fleet.limits import CallsInFlight
from aggregator.settings import LimitsSettings
from fedge.errors import InputError, VerificationError
from fedge.traces import NoTraces, Traces
from fedge.wire import is_loopback
from protos.fedge.central.v1 import central_pb2_grpc
from protos.fedge.central.v1.central_pb2 import DESCRIPTOR, AnswerRequest, AnswerResponse, DescribeRequest, DescribeResponse

STATUS_OF: dict[type[CentralError], grpc.StatusCode] = {
    RequestRefusedError: grpc.StatusCode.INVALID_ARGUMENT,
    DeviceRefusedError: grpc.StatusCode.PERMISSION_DENIED,
    KeyReusedError: grpc.StatusCode.ALREADY_EXISTS,
    DeadlinePassedError: grpc.StatusCode.DEADLINE_EXCEEDED,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ModelFailedError: grpc.StatusCode.INTERNAL,
    LedgerFailedError: grpc.StatusCode.UNAVAILABLE,
}

AnswerContext = grpc.aio.ServicerContext[AnswerRequest, AnswerResponse]
DescribeContext = grpc.aio.ServicerContext[DescribeRequest, DescribeResponse]


class CentralServicer(central_pb2_grpc.CentralServicer):
    """Answer and Describe on one event loop.

    With `names_devices`, callers present a certificate that `aggregator.fleet.authentication` has verified; it must name the
    device that they speak for. Without certificates, `is_revoked` is asked for the id in the message.
    """

    def __init__(
        self,
        service: CentralService,
        batcher: MicroBatcher,
        *,
        names_devices: bool,
        is_revoked: Callable[[str], bool],
        traces: Traces,
    ) -> None:
        self._service = service
        self._batcher = batcher
        self._names_devices = names_devices
        self._is_revoked = is_revoked
        self._traces = traces

    async def Answer(self, request: AnswerRequest, context: AnswerContext) -> AnswerResponse:  # noqa: N802 - the wire's name
        """One answer; see central.proto."""
        try:
            with self._traces.span("central.answer", carried=_carried(context), purpose=request.purpose):
                self._check_caller(request.device_id, context)
                return await self._batcher.answer(request, timeout_s=context.time_remaining())
        except CentralError as error:
            await _abort(context, error)

    async def Describe(self, request: DescribeRequest, context: DescribeContext) -> DescribeResponse:  # noqa: N802
        """What the service answers with."""
        return self._service.describe()

    def _check_caller(self, device_id: str, context: AnswerContext) -> None:
        """Holds a device to the name in its certificate: else it could read, or spend on, another device's account."""
        if self._names_devices:
            try:
                check_speaks_for_itself(context, device_id)
            except VerificationError as error:
                raise DeviceRefusedError(str(error)) from None
        elif self._is_revoked(device_id):
            raise DeviceRefusedError(f"device {device_id[:128]!r} is revoked: enroll it again")


def _carried(context: AnswerContext) -> dict[str, str]:
    """The caller's trace context, as it came."""
    given = context.invocation_metadata() or ()
    return {key: value for key, value in given if key in ("traceparent", "tracestate") and isinstance(value, str)}


async def _abort(context: AnswerContext, error: CentralError) -> NoReturn:
    if isinstance(error, OverloadedError):
        await abort_for_later(context, error)
    await context.abort(STATUS_OF[type(error)], str(error))


SERVICE_NAME = DESCRIPTOR.services_by_name["Central"].full_name


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Bounds of the server: what one message may weigh, one call of the model may hold, and how many may wait for it.

    ``calls_per_device`` and ``calls`` bound the calls under way at once, by the device that the client certificate names;
    ``streams_per_connection`` those of one connection.
    """

    max_message_bytes: int = 64 * 1024
    max_response_bytes: int = 1 << 20
    max_batch: int = 64
    max_waiting: int = 1024
    calls_per_device: int = 64
    calls: int = 1024
    streams_per_connection: int = 100
    reflection: bool = True

    @classmethod
    def from_settings(cls, limits: LimitsSettings) -> "ServerOptions":
        """Return the options of a server with these limits."""
        return cls(
            calls_per_device=limits.central_calls_per_device,
            calls=limits.central_calls,
            streams_per_connection=limits.streams_per_connection,
        )


class _Health(Protocol):
    async def enter_graceful_shutdown(self) -> None: ...


@dataclass(frozen=True, slots=True)
class CentralServer:
    """A running server. Belongs to the event loop it was started on."""

    port: int
    _server: grpc.aio.Server
    _health: _Health
    _batcher: MicroBatcher

    async def stop(self, grace_s: float = 5.0) -> None:
        """Says NOT_SERVING, takes no new call, gives running ones `grace_s` to end, then cuts them off."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)
        self._batcher.close()

    async def wait(self) -> None:
        """Returns when the server has stopped."""
        await self._server.wait_for_termination()


async def serve(
    service: CentralService,
    *,
    address: str = "127.0.0.1:0",
    tls: ServerTls | None = None,
    options: ServerOptions | None = None,
    is_revoked: Callable[[str], bool] = nobody,
    clock: Callable[[], float] = time.time,
    traces: Traces | None = None,
) -> CentralServer:
    """Serves on `host:port` (port 0: any free one).

    Raises InputError for an address that cannot be had, for one beyond loopback without TLS, and for unusable TLS files.
    """
    bounds = options or ServerOptions()
    if tls is None and not is_loopback(address):
        raise InputError(f"refusing to serve on {address} without TLS: give certificates, or listen on 127.0.0.1")
    calls = CallsInFlight(per_device=bounds.calls_per_device, total=bounds.calls, setting="central")
    server = grpc.aio.server(
        interceptors=[] if tls is None else [Admission(is_revoked=is_revoked, clock=clock, calls=calls)],
        options=[
            ("grpc.max_receive_message_length", bounds.max_message_bytes),
            ("grpc.max_send_message_length", bounds.max_response_bytes),
            ("grpc.max_concurrent_streams", bounds.streams_per_connection),
            ("grpc.so_reuseport", 0),  # two servers on one port would share the calls and neither know all answers given
        ],
    )
    batcher = MicroBatcher(service.begin_many, max_batch=bounds.max_batch, max_waiting=bounds.max_waiting)
    servicer = CentralServicer(
        service, batcher, names_devices=tls is not None, is_revoked=is_revoked, traces=traces or NoTraces()
    )
    central_pb2_grpc.add_CentralServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]  # generated code
    status = health.aio.HealthServicer()  # type: ignore[attr-defined]  # grpc-stubs knows the synchronous one only
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    if bounds.reflection:
        reflection.enable_server_reflection((SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    try:
        port = server.add_insecure_port(address) if tls is None else server.add_secure_port(address, tls.credentials())
    except RuntimeError as error:
        raise InputError(f"cannot listen on {address}: is the port taken, or the TLS key not the certificate's?") from error
    await server.start()
    await status.set(SERVICE_NAME, health_pb2.HealthCheckResponse.SERVING)
    return CentralServer(port, server, status, batcher)


@contextmanager
def serve_in_thread(service: CentralService, *, grace_s: float = 5.0, **how: Any) -> Iterator[int]:
    """Serves from a thread while the block runs and gives the port; for a simulator or a test. `how` goes to `serve`."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="central-server", daemon=True)
    thread.start()
    try:
        running = asyncio.run_coroutine_threadsafe(serve(service, **how), loop).result()
        try:
            yield running.port
        finally:
            asyncio.run_coroutine_threadsafe(running.stop(grace_s), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
