"""Central for a simulated fleet: the real service, asked by a direct call or over real gRPC on loopback."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import grpc

from aggregator.central import CentralError, CentralService, serve_in_thread
from edge_client.answering.escalation import CentralClient, EscalationFailed, GrpcCentralClient, Outcome, answer_of
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
