"""Asking central: one question or many, over gRPC, with deadlines and retries that never pay twice.

A try that fails for want of a connection or of time is made again under the same idempotency key until the caller's time is
up; a refusal is final. Never decides what to escalate (the router does), nor keeps what could not be sent (the agent does).

What a device knows of its way to central: a client that notes how its calls end, so that the next query need not wait.

While central is out of reach the router answers on the device at once instead of running into the same time-out; only
`check`, which a background loop calls, tries the network then. It queues nothing: see
`edge_client.inference.pipeline.catch_up`.
"""

import itertools
import math
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event, Lock
from types import TracebackType
from typing import Protocol, Self

import grpc

from edge_client.membership.channel import ChannelOption, is_marked_for_later, proxy_options
from fedge.errors import FedgeError, InputError
from fedge.traces import NoTraces, Traces
from fedge.wire import is_loopback
from protos.fedge.central.v1 import central_pb2_grpc
from protos.fedge.central.v1.central_pb2 import AnswerRequest, AnswerResponse, DescribeRequest, DescribeResponse

_RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_PASSING = (*_RETRIED, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED)
_ANSWERERS = ("central", "upstream")
_ROUNDING = 1e-6


class EscalationFailed(FedgeError):  # noqa: N818 - an outcome that the agent reports, not only an error
    """Central gave no answer. `status` is gRPC's code for the reason; ``passes``: central says that it passes with time."""

    def __init__(
        self, message: str, *, status: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE, passes: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.passes = passes

    @property
    def is_retried(self) -> bool:
        """Whether the client itself tries again while the caller's time lasts."""
        return self.passes or self.status in _RETRIED

    @property
    def may_succeed_later(self) -> bool:
        """Whether the same request is worth keeping for later: no connection, no time, or too much to do for central."""
        return self.status in _PASSING


Outcome = AnswerResponse | EscalationFailed


def answer_of(outcomes: "Sequence[Outcome]") -> AnswerResponse:
    """The answer among the outcomes of one request. Raises EscalationFailed where that is what came of it."""
    (outcome,) = outcomes
    if isinstance(outcome, EscalationFailed):
        raise outcome
    return outcome


class CentralClient(Protocol):
    """Whatever carries a question to central: gRPC on a device, a direct call in the simulator."""

    def answer(self, request: AnswerRequest, timeout_s: float) -> AnswerResponse:
        """The answer. Raises EscalationFailed after at most `timeout_s` seconds."""
        ...

    def answer_many(self, requests: Sequence[AnswerRequest], timeout_s: float) -> list[Outcome]:
        """One outcome a request, in their order, within `timeout_s` for all together; failures stand as values."""
        ...


@dataclass(frozen=True, slots=True)
class Retries:
    """How a failed try is repeated: after a random wait of up to `first_wait_s`, doubled each time up to `max_wait_s`."""

    try_timeout_s: float = 5.0
    first_wait_s: float = 0.1
    max_wait_s: float = 2.0

    def wait_s(self, tries: int, rng: random.Random) -> float:
        """The wait after so many failed tries: uniform below the bound, so that a fleet does not come back all at once."""
        return rng.uniform(0.0, min(self.max_wait_s, self.first_wait_s * 2.0 ** min(tries - 1, 32)))


@dataclass(frozen=True, slots=True)
class ClientTls:
    """PEM files for mutual TLS: the authority behind central's certificate, and the device's own certificate and key."""

    server_authority: Path
    certificate: Path
    private_key: Path

    def credentials(self) -> grpc.ChannelCredentials:
        """Raises InputError when a file cannot be read."""
        try:
            return grpc.ssl_channel_credentials(
                root_certificates=self.server_authority.read_bytes(),
                private_key=self.private_key.read_bytes(),
                certificate_chain=self.certificate.read_bytes(),
            )
        except OSError as error:
            raise InputError(f"cannot read the TLS file {error.filename}: {error.strerror}") from error


Credentials = grpc.ChannelCredentials | Callable[[], grpc.ChannelCredentials]


class GrpcCentralClient:
    """A CentralClient over one gRPC channel, opened at the first call. Safe to use from several threads.

    ``credentials``: as they are, or a function that is asked whenever a channel is opened (certificates are renewed while an
    agent runs). ``server_name``: the name in central's certificate where it differs from the host that is dialled.
    """

    def __init__(
        self,
        address: str,
        credentials: Credentials | None = None,
        *,
        server_name: str | None = None,
        retries: Retries | None = None,
        max_in_flight: int = 64,
        max_message_bytes: int = 1 << 20,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
        traces: Traces | None = None,
    ) -> None:
        if credentials is None and not is_loopback(address):
            raise InputError(f"refusing to send queries to {address} without TLS: give credentials, or use 127.0.0.1")
        self._address = address
        self._credentials = credentials
        self._retries = retries or Retries()
        self._max_in_flight = max_in_flight
        self._max_message_bytes = max_message_bytes
        self._options: list[ChannelOption] = [
            *proxy_options(address),
            *([("grpc.ssl_target_name_override", server_name)] if server_name else []),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.enable_retries", 0),  # the retries below are the only ones: two layers would multiply
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 10_000),  # in truth the time that one attempt to connect may take
            ("grpc.max_reconnect_backoff_ms", 5000),
        ]
        self._clock = clock
        self._sleep = sleep
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries in time, decides nothing
        self._traces = traces or NoTraces()
        self._lock = Lock()
        self._channel: grpc.Channel | None = None
        self._retired: grpc.Channel | None = None
        self._stub: central_pb2_grpc.CentralStub | None = None

    def answer(self, request: AnswerRequest, timeout_s: float) -> AnswerResponse:
        """The answer. Raises EscalationFailed when central refuses, or when `timeout_s` seconds did not bring one."""
        deadline = self._clock() + timeout_s
        for tries in itertools.count(1):
            outcome = self._one_try(request, deadline)
            if isinstance(outcome, AnswerResponse):
                return outcome
            if not (outcome.is_retried and self._waited(tries, deadline)):
                raise outcome
        raise AssertionError("unreachable: count() has no end")

    def answer_many(self, requests: Sequence[AnswerRequest], timeout_s: float) -> list[Outcome]:
        """One outcome a request, in their order: `max_in_flight` calls at once, the failed ones tried again together."""
        if len(requests) == 1:  # the usual case; the blocking call takes a third less than a future
            try:
                return [self.answer(requests[0], timeout_s)]
            except EscalationFailed as failure:
                return [failure]
        deadline = self._clock() + timeout_s
        outcomes = self._one_pass(requests, deadline)
        for tries in itertools.count(1):
            again = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, EscalationFailed) and outcome.is_retried]
            if not again or not self._waited(tries, deadline):
                break
            repeated = self._one_pass([requests[i] for i in again], deadline)
            for i, outcome in zip(again, repeated, strict=True):
                outcomes[i] = outcome
        return outcomes

    def describe(self, timeout_s: float) -> DescribeResponse:
        """What central answers with. Raises EscalationFailed at once when it cannot be reached."""
        try:
            response: DescribeResponse = self._connected().Describe(DescribeRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            raise _failure(error) from error
        return response

    def reopen(self) -> None:
        """Let the next call open a new channel, with fresh credentials; calls that run on the present one end in peace."""
        with self._lock:
            # A channel that is closed cancels its calls: each lives until the next renewal, hours later.
            if self._retired is not None:
                self._retired.close()
            self._retired, self._channel, self._stub = self._channel, None, None

    def close(self) -> None:
        """Closes the channel. The next call opens a new one."""
        with self._lock:
            for channel in (self._channel, self._retired):
                if channel is not None:
                    channel.close()
            self._channel = self._retired = self._stub = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _one_try(self, request: AnswerRequest, deadline: float) -> Outcome:
        # The blocking call, not a future: it wakes this thread without a detour over the channel's own.
        try:
            self._check_size(request)
            return _checked(
                self._connected().Answer(request, timeout=self._try_timeout_s(deadline), metadata=self._metadata())
            )
        except EscalationFailed as failure:
            return failure
        except (grpc.RpcError, ValueError) as error:
            return _failure(error)

    def _one_pass(self, requests: Sequence[AnswerRequest], deadline: float) -> list[Outcome]:
        outcomes: list[Outcome] = []
        in_flight: deque[Callable[[], Outcome]] = deque()
        for request in requests:
            if len(in_flight) >= self._max_in_flight:
                outcomes.append(in_flight.popleft()())
            in_flight.append(self._sent(request, deadline))
        outcomes.extend(finish() for finish in in_flight)
        return outcomes

    def _sent(self, request: AnswerRequest, deadline: float) -> Callable[[], Outcome]:
        """Sends one request and gives the function that waits for its outcome."""
        try:
            self._check_size(request)
            call = self._connected().Answer.future(request, timeout=self._try_timeout_s(deadline), metadata=self._metadata())
        except EscalationFailed as failure:
            return partial(_same, failure)
        except (grpc.RpcError, ValueError) as error:
            return partial(_same, _failure(error))
        return partial(_finished, call)

    def _connected(self) -> central_pb2_grpc.CentralStub:
        with self._lock:
            if self._stub is None:
                if self._credentials is None:
                    self._channel = grpc.insecure_channel(self._address, self._options)
                else:
                    given = self._credentials
                    credentials = given if isinstance(given, grpc.ChannelCredentials) else given()
                    self._channel = grpc.secure_channel(self._address, credentials, self._options)
                self._stub = central_pb2_grpc.CentralStub(self._channel)  # type: ignore[no-untyped-call]  # generated code
            return self._stub

    def _metadata(self) -> tuple[tuple[str, str], ...] | None:
        return tuple(self._traces.headers().items()) or None

    def _check_size(self, request: AnswerRequest) -> None:
        if request.ByteSize() > self._max_message_bytes:
            raise EscalationFailed(
                f"the request has {request.ByteSize()} bytes, more than the {self._max_message_bytes} that are sent",
                status=grpc.StatusCode.INVALID_ARGUMENT,
            )

    def _try_timeout_s(self, deadline: float) -> float:
        return max(0.0, min(self._retries.try_timeout_s, deadline - self._clock()))

    def _waited(self, tries: int, deadline: float) -> bool:
        """Waits before the next try and says True, or says False at once when the caller's time would be up by then."""
        wait_s = self._retries.wait_s(tries, self._rng)
        if self._clock() + wait_s >= deadline:
            return False
        self._sleep(wait_s)
        return True


def _same(outcome: Outcome) -> Outcome:
    return outcome


def _finished(call: "grpc.CallFuture[AnswerResponse]") -> Outcome:
    try:
        return _checked(call.result())
    except EscalationFailed as failure:
        return failure
    except (grpc.RpcError, grpc.FutureCancelledError) as error:
        return _failure(error)


def _failure(error: Exception) -> EscalationFailed:
    # A call on a channel that another thread closed ends in ValueError or FutureCancelledError, which carry no status.
    code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.CANCELLED
    details = error.details() if isinstance(error, grpc.Call) else str(error)
    passes = code is grpc.StatusCode.RESOURCE_EXHAUSTED and is_marked_for_later(error)
    return EscalationFailed(f"central gave no answer ({code.name}): {details}", status=code, passes=passes)


def _checked(response: AnswerResponse) -> AnswerResponse:
    """The response, if a device can use it: it comes from outside, and its numbers go into the ledger and the memory."""
    if not response.label or response.answered_by not in _ANSWERERS:
        problem = f"label {response.label[:40]!r} answered by {response.answered_by[:40]!r}"
    elif not (math.isfinite(response.price_usd) and response.price_usd >= 0):
        problem = f"a price of {response.price_usd} USD"
    elif not all(0 <= probability <= 1 + _ROUNDING for probability in response.distribution):
        problem = "a distribution with a value outside [0, 1]"
    else:
        return response
    raise EscalationFailed(f"central's answer cannot be used: {problem}", status=grpc.StatusCode.DATA_LOSS)


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
