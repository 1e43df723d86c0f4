"""Central for a simulated fleet: the real service, asked by a direct call or over real gRPC on loopback."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc

from aggregator.central import CentralError, CentralService, ProbeCounts, TotalsClient, serve_in_thread, serve_totals
from aggregator.rounds.probe_sums import TotalsSource
from edge_client.inference.escalation import CentralClient, EscalationFailed, GrpcCentralClient, Outcome, answer_of
from fedge.routing import ProbeTotals
from protos.fedge.central.v1.central_pb2 import AnswerRequest, AnswerResponse


class DirectCentralClient:
    """A `CentralClient` that calls the service in this process: no sockets, the same checks, prices and idempotency."""

    def __init__(self, service: CentralService) -> None:
        self._service = service

    def answer(self, request: AnswerRequest, timeout_s: float) -> AnswerResponse:
        """The answer. Raises EscalationFailed where the service refuses."""
        return answer_of(self.answer_many([request], timeout_s))

    def answer_many(self, requests: Sequence[AnswerRequest], timeout_s: float) -> list[Outcome]:
        """One outcome a request, in their order."""
        return [
            EscalationFailed(str(outcome), status=grpc.StatusCode.INVALID_ARGUMENT)
            if isinstance(outcome, CentralError)
            else outcome
            for outcome in self._service.answer_many(requests)
        ]


@contextmanager
def central_client(service: CentralService, *, over_grpc: bool) -> Iterator[CentralClient]:
    """A client of ``service``: direct, or through a gRPC server that lives as long as the block."""
    if not over_grpc:
        yield DirectCentralClient(service)
        return
    with serve_in_thread(service) as port, GrpcCentralClient(f"127.0.0.1:{port}") as client:
        yield client


class DirectTotals:
    """Central's totals by a direct call: no socket, the same checks."""

    def __init__(self, counts: ProbeCounts, clock: Callable[[], float]) -> None:
        self._counts = counts
        self._clock = clock

    def roster_totals(self, descriptor: bytes, signature: bytes) -> ProbeTotals:
        """Return the total for a signed descriptor's roster. Raises TotalsRefusedError."""
        return self._counts.roster_totals(descriptor, signature, now=self._clock())


@contextmanager
def totals_source(
    counts: ProbeCounts, socket: Path, clock: Callable[[], float], *, over_grpc: bool
) -> Iterator[TotalsSource]:
    """A source of ``counts``' totals: direct, or through a server on ``socket`` that lives as long as the block."""
    if not over_grpc:
        yield DirectTotals(counts, clock)
        return
    with serve_totals(counts, socket, clock=clock):
        yield TotalsClient(socket)
