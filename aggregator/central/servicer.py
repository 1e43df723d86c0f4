"""The fallback service as gRPC: errors become status codes with one clear line, deadlines are honoured, callers are checked.

Never decides anything about an answer: that is service.py.
"""

from collections.abc import Callable
from typing import NoReturn

import grpc

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
from aggregator.fleet.peers import abort_for_later, check_speaks_for_itself
from fedge.errors import VerificationError
from fedge.traces import Traces
from protos.fedge.central.v1 import central_pb2_grpc
from protos.fedge.central.v1.central_pb2 import AnswerRequest, AnswerResponse, DescribeRequest, DescribeResponse

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

    `names_devices`: callers come with a certificate, checked by `aggregator.fleet.peers` before the call gets here; it must
    name the device they speak for. Without certificates `is_revoked` is asked for the id in the message.
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
