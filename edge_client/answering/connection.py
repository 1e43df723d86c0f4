"""What a device knows of its way to central: a client that notes how its calls end, so that the next query need not wait.

While central is out of reach the router answers on the device at once instead of running into the same time-out; only
`check`, which a background loop calls, tries the network then. Never queues anything: see `edge_client.agent.catch_up`.
"""

from collections.abc import Callable, Sequence
from threading import Event

import grpc

from edge_client.answering.escalation import CentralClient, EscalationFailed, Outcome, answer_of
from protos.fedge.central.v1.central_pb2 import AnswerRequest, AnswerResponse

_OUT_OF_REACH = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class WatchedCentral:
    """A `CentralClient` over another one. Central counts as in reach until a call shows otherwise.

    ``check`` asks central for a sign of life and raises EscalationFailed without one; ``lost`` is told when it went away.
    Safe to use from several threads: the state is one event, set or not.
    """

    def __init__(self, client: CentralClient, *, check: Callable[[], object], lost: Callable[[], None]) -> None:
        self._client = client
        self._check = check
        self._lost = lost
        self._online = Event()
        self._online.set()

    def online(self) -> bool:
        """Whether a call is worth its time."""
        return self._online.is_set()

    def check(self) -> None:
        """One try to reach central, for real. Raises EscalationFailed where it is still away."""
        try:
            self._check()
        except EscalationFailed as failure:
            self._note([failure])
            raise
        self._online.set()

    def answer(self, request: AnswerRequest, timeout_s: float) -> AnswerResponse:
        """The answer. Raises EscalationFailed."""
        return answer_of(self.answer_many([request], timeout_s))

    def answer_many(self, requests: Sequence[AnswerRequest], timeout_s: float) -> list[Outcome]:
        """One outcome a request, in their order."""
        outcomes = self._client.answer_many(requests, timeout_s)
        self._note(outcomes)
        return outcomes

    def _note(self, outcomes: Sequence[Outcome]) -> None:
        # A refusal comes from central itself, so it is there.
        if any(not isinstance(outcome, EscalationFailed) or outcome.status not in _OUT_OF_REACH for outcome in outcomes):
            self._online.set()
        elif outcomes and self._online.is_set():
            self._online.clear()
            self._lost()
