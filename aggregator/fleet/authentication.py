"""Who calls: the device id in the client certificate that TLS has verified, and whether that device may (still) call.

gRPC keeps a connection for as long as it lasts and has no hook for revocation, so both revocation and the certificate's end
are checked on each call, not only when the connection was made. A device's word for its own id counts for nothing.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from aggregator.fleet.limits import CallsInFlight, LimitExceededError
from fedge.errors import FedgeError, InputError, VerificationError
from fedge.identity.device_id import check_device_id
from fedge.identity.tls import read_pem
from fedge.wire import RETRY_LATER

if TYPE_CHECKING:
    Interceptor = grpc.aio.ServerInterceptor[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
else:  # gRPC itself does not know these as generic
    Interceptor, Handler = grpc.aio.ServerInterceptor, grpc.RpcMethodHandler
Context = grpc.aio.ServicerContext[Any, Any]


PAUSE_S = 1.0
MAX_PAUSED = 256
"""Refused calls of one device that are kept waiting at once, each with its small request; more are refused at once."""


def nobody(device_id: str) -> bool:
    """A revocation list with no one on it."""
    return False


def caller(context: Context) -> str:
    """The id of the device that calls. Raises VerificationError where no client certificate over TLS 1.3 names one."""
    return _device(context)[0]


def admit(context: Context, *, is_revoked: Callable[[str], bool], now: float) -> str:
    """The id of the device that calls, if it may. Raises VerificationError with the line that the device is told."""
    device_id, not_after = _device(context)
    if now >= not_after:
        raise VerificationError(f"the certificate of device {device_id!r} has expired: renew it")
    if is_revoked(device_id):
        raise VerificationError(f"device {device_id!r} is revoked: enroll it again under another id")
    return device_id


def check_speaks_for_itself(context: Context, device_id: str) -> None:
    """Holds a device to the id in its certificate. Raises VerificationError."""
    if caller(context) != device_id:
        raise VerificationError(f"the caller's certificate does not name device {device_id[:128]!r}")


class Admission(Interceptor):
    """Lets a call through to any service only after ``admit``; every other one ends in PERMISSION_DENIED.

    With ``calls``, a device that has too many under way gets RESOURCE_EXHAUSTED, marked as worth a later try.
    """

    def __init__(
        self, *, is_revoked: Callable[[str], bool], clock: Callable[[], float], calls: CallsInFlight | None = None
    ) -> None:
        self._is_revoked = is_revoked
        self._clock = clock
        self._calls = calls
        self._paused: Counter[str] = Counter()

    async def intercept_service(  # type: ignore[override]  # None (no such method) is what gRPC itself passes on
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The service's handler behind the check."""
        handler = await continuation(handler_call_details)
        return None if handler is None else _guarded(handler, self._admitted)

    @asynccontextmanager
    async def _admitted(self, context: Context) -> AsyncIterator[None]:
        try:
            device_id = admit(context, is_revoked=self._is_revoked, now=self._clock())
        except VerificationError as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        if self._calls is None:
            yield
            return
        try:
            self._calls.enter(device_id)
        except LimitExceededError as error:
            await self._pause(device_id)
            await abort_for_later(context, error)
        try:
            yield
        finally:
            self._calls.leave(device_id)


    async def _pause(self, device_id: str) -> None:
        """Keep a device that is over its limit waiting: else it asks again at once, and its refusals take all the time."""
        if self._paused[device_id] >= MAX_PAUSED:
            return
        self._paused[device_id] += 1
        try:
            await asyncio.sleep(PAUSE_S)
        finally:
            self._paused[device_id] -= 1
            if not self._paused[device_id]:
                del self._paused[device_id]


async def abort_for_later(context: Context, error: FedgeError) -> NoReturn:
    """End a call in RESOURCE_EXHAUSTED with the error's line, marked as one that passes with time."""
    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), ((RETRY_LATER, "1"),))


def _guarded(handler: Handler, admitted: Callable[[Context], AbstractAsyncContextManager[None]]) -> Handler:
    inner: Any = handler.unary_unary or handler.stream_unary or handler.unary_stream or handler.stream_stream

    async def one(request: Any, context: Context) -> Any:
        async with admitted(context):
            return await inner(request, context)

    async def many(request: Any, context: Context) -> AsyncIterator[Any]:
        async with admitted(context):
            async for response in inner(request, context):
                yield response

    codec = {
        "request_deserializer": handler.request_deserializer,
        "response_serializer": handler.response_serializer,
    }
    make: Any = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[bool(handler.request_streaming), bool(handler.response_streaming)]
    guarded: Handler = make(many if handler.response_streaming else one, **codec)
    return guarded


def _device(context: Context) -> tuple[str, float]:
    peer = context.auth_context()
    # The handshake refuses TLS 1.2 already (`fedge.tls13`); this shows it for the very connection that calls.
    if list(peer.get("ssl_tls_version", ())) != [b"TLSv1.3"]:
        raise VerificationError("calls are taken over TLS 1.3 only")
    certificates = list(peer.get("x509_pem_cert", ()))
    if len(certificates) != 1:
        raise VerificationError("the caller shows no client certificate")
    return _read(certificates[0])


@lru_cache(maxsize=4096)
def _read(pem: bytes) -> tuple[str, float]:
    """The id in a certificate that TLS has verified, and its end. Parsed once for each certificate, not for each call."""
    certificate = read_pem(pem)
    names = list(certificate.subject)
    if len(names) != 1 or not isinstance(names[0].value, str):
        raise VerificationError("the caller's certificate does not name one device")
    try:
        device_id = check_device_id(names[0].value)
    except InputError as error:
        raise VerificationError(f"the caller's certificate: {error}") from None
    return device_id, certificate.not_valid_after_utc.timestamp()
