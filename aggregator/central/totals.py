"""The totals of central's probe counts over a Unix socket: only who may open the socket's file may ask.

The socket lies in the server's folder, which belongs to the operator's account. What is asked has to be signed by the
round key in any case.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc

from aggregator.central.probe_counts import ProbeCounts, TotalsRefusedError
from fedge.errors import FedgeError
from fedge.routing import ProbeTotals
from protos.fedge.central.v1 import totals_pb2_grpc
from protos.fedge.central.v1.totals_pb2 import RosterTotalsRequest, RosterTotalsResponse

TIMEOUT_S = 10.0
_MAX_MESSAGE_BYTES = 1 << 20

Context = grpc.ServicerContext


class TotalsServicer(totals_pb2_grpc.TotalsServicer):
    """RosterTotals; see totals.proto."""

    def __init__(self, counts: ProbeCounts, clock: Callable[[], float]) -> None:
        self._counts = counts
        self._clock = clock

    def RosterTotals(self, request: RosterTotalsRequest, context: Context) -> RosterTotalsResponse:  # noqa: N802 - the wire's name
        """One total, or FAILED_PRECONDITION with the reason."""
        try:
            totals = self._counts.roster_totals(request.descriptor, request.signature, now=self._clock())
        except TotalsRefusedError as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return RosterTotalsResponse(answered=totals.answered, agreed=totals.agreed, disagreed=totals.disagreed)


@contextmanager
def serve_totals(counts: ProbeCounts, socket: Path, *, clock: Callable[[], float] = time.time) -> Iterator[None]:
    """Serve on the Unix socket ``socket`` as long as the block lasts. Raises FedgeError where it cannot be had."""
    server = grpc.server(
        ThreadPoolExecutor(2, thread_name_prefix="totals"),
        options=[("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES)],
    )
    totals_pb2_grpc.add_TotalsServicer_to_server(TotalsServicer(counts, clock), server)  # type: ignore[no-untyped-call]
    socket.parent.mkdir(parents=True, exist_ok=True)
    socket.unlink(missing_ok=True)  # of a process that was killed
    try:
        server.add_insecure_port(f"unix:{socket}")
        server.start()
        socket.chmod(0o600)
    except (RuntimeError, OSError) as error:
        raise FedgeError(f"cannot listen on {socket}: {error}") from error
    try:
        yield
    finally:
        server.stop(1.0).wait()
        socket.unlink(missing_ok=True)


class TotalsClient:
    """The aggregator's way to central's totals."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def roster_totals(self, descriptor: bytes, signature: bytes) -> ProbeTotals:
        """Return the total for a signed descriptor's roster. Raises TotalsRefusedError, also where central cannot be
        reached.
        """
        with grpc.insecure_channel(f"unix:{self._socket}") as channel:
            stub = totals_pb2_grpc.TotalsStub(channel)  # type: ignore[no-untyped-call]
            try:
                response: RosterTotalsResponse = stub.RosterTotals(
                    RosterTotalsRequest(descriptor=descriptor, signature=signature), timeout=TIMEOUT_S
                )
            except grpc.RpcError as error:
                details = error.details() if hasattr(error, "details") else str(error)
                raise TotalsRefusedError(f"central gives no total: {details}") from None
        return ProbeTotals(response.answered, response.agreed, response.disagreed)
