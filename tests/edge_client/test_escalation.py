"""What the device's client promises, against a scripted server: tries, waits, bounds, and what it does with a bad answer."""

import random
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from threading import Barrier, Event, Lock

import grpc
import pytest

from edge_client.inference.escalation import EscalationFailed, GrpcCentralClient, Retries
from fedge.wire import answer_request
from protos.fedge.central.v1 import central_pb2_grpc
from protos.fedge.central.v1.central_pb2 import PURPOSE_ESCALATION, AnswerRequest, AnswerResponse

TIMEOUT_S = 30.0
QUICK = Retries(first_wait_s=0.001, max_wait_s=0.002)
Script = Callable[[AnswerRequest, grpc.ServicerContext], AnswerResponse]


def _request(text: str = "turn on the light", key: str = "k") -> AnswerRequest:
    return answer_request(idempotency_key=key, device_id="dev", query=text, release_id="", purpose=PURPOSE_ESCALATION)


def _good(request: AnswerRequest) -> AnswerResponse:
    return AnswerResponse(label=request.query.text, distribution=[1.0], answered_by="central", price_usd=0.001)


class Scripted(central_pb2_grpc.CentralServicer):
    """Answers as its script says, and keeps the keys it was asked with."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.keys: list[str] = []
        self.lock = Lock()

    def Answer(self, request, context):
        with self.lock:
            self.keys.append(request.idempotency_key)
        return self.script(request, context)


def _fails_first(times: int, status: grpc.StatusCode) -> Script:
    tries = iter(range(1000))

    def script(request, context):
        if next(tries) < times:
            context.abort(status, "not now")
        return _good(request)

    return script


@contextmanager
def _serving(script: Script) -> Iterator[tuple[Scripted, str]]:
    servicer = Scripted(script)
    server = grpc.server(futures.ThreadPoolExecutor(32))
    central_pb2_grpc.add_CentralServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield servicer, f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
def test_a_passing_failure_is_tried_again_under_the_same_key(status):
    with (
        _serving(_fails_first(3, status)) as (servicer, address),
        GrpcCentralClient(address, retries=QUICK) as client,
    ):
        assert client.answer(_request(key="mine"), TIMEOUT_S).label == "turn on the light"
        assert servicer.keys == ["mine"] * 4


@pytest.mark.parametrize(
    ("status", "later"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, False),
        (grpc.StatusCode.ALREADY_EXISTS, False),
        (grpc.StatusCode.PERMISSION_DENIED, False),
        (grpc.StatusCode.INTERNAL, False),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, True),
    ],
)
def test_a_refusal_is_final(status, later):
    with (
        _serving(_fails_first(1, status)) as (servicer, address),
        GrpcCentralClient(address, retries=QUICK) as client,
    ):
        with pytest.raises(EscalationFailed, match=f"{status.name}.*not now") as caught:
            client.answer(_request(), TIMEOUT_S)
        assert caught.value.status == status
        assert caught.value.may_succeed_later is later
        (outcome,) = client.answer_many([_request()], TIMEOUT_S)
        assert outcome == _good(_request())
        assert len(servicer.keys) == 2


def test_a_try_that_hangs_is_given_up_and_made_again():
    hang = Event()
    tries = iter(range(1000))

    def script(request, context):
        if next(tries) == 0:
            hang.wait(TIMEOUT_S)
        return _good(request)

    retries = Retries(try_timeout_s=0.3, first_wait_s=0.001, max_wait_s=0.002)
    with _serving(script) as (servicer, address), GrpcCentralClient(address, retries=retries) as client:
        assert client.answer(_request(), TIMEOUT_S).label == "turn on the light"
        assert len(servicer.keys) >= 2
        hang.set()


def test_waits_grow_to_their_bound_are_random_and_end_with_the_callers_time():
    now = [0.0]
    waits: list[float] = []

    def sleep(wait_s: float) -> None:
        waits.append(wait_s)
        now[0] += wait_s

    retries = Retries(first_wait_s=0.1, max_wait_s=2.0)
    with (
        _serving(_fails_first(1000, grpc.StatusCode.UNAVAILABLE)) as (servicer, address),
        GrpcCentralClient(address, retries=retries, clock=lambda: now[0], sleep=sleep, rng=random.Random(7)) as client,
        pytest.raises(EscalationFailed),
    ):
        client.answer(_request(), 10.0)
    assert len(servicer.keys) == len(waits) + 1
    rng = random.Random(7)
    bounds = [0.1, 0.2, 0.4, 0.8, 1.6, *[2.0] * len(waits)][: len(waits)]
    assert waits == [rng.uniform(0.0, bound) for bound in bounds]
    assert len(waits) > 6
    assert sum(waits) <= 10.0


def test_of_many_only_the_failed_ones_are_sent_again():
    failed_once: set[str] = set()

    def script(request, context):
        key = request.idempotency_key
        if int(key) % 3 == 0 and key not in failed_once:
            failed_once.add(key)
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        if key == "5":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")
        return _good(request)

    with _serving(script) as (servicer, address), GrpcCentralClient(address, retries=QUICK) as client:
        outcomes = client.answer_many([_request(f"q{i}", str(i)) for i in range(10)], TIMEOUT_S)
    assert isinstance(outcomes[5], EscalationFailed)
    assert [outcomes[i].label for i in range(10) if i != 5] == [f"q{i}" for i in range(10) if i != 5]
    assert sorted(servicer.keys, key=int) == ["0", "0", "1", "2", "3", "3", "4", "5", "6", "6", "7", "8", "9", "9"]


def test_calls_in_flight_reach_their_bound_and_stay_within_it():
    # Each group of four must meet at the barrier: with fewer in flight it would break, with more the count would show it.
    barrier = Barrier(4, timeout=TIMEOUT_S)
    running = 0
    most = 0
    lock = Lock()

    def script(request, context):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait()
        with lock:
            running -= 1
        return _good(request)

    with _serving(script) as (_, address), GrpcCentralClient(address, max_in_flight=4) as client:
        outcomes = client.answer_many([_request(f"q{i}", str(i)) for i in range(16)], TIMEOUT_S)
    assert [outcome.label for outcome in outcomes] == [f"q{i}" for i in range(16)]
    assert most == 4


@pytest.mark.parametrize(
    "response",
    [
        AnswerResponse(answered_by="central"),
        AnswerResponse(label="a", answered_by="device"),
        AnswerResponse(label="a", answered_by="central", price_usd=-1.0),
        AnswerResponse(label="a", answered_by="central", price_usd=float("nan")),
        AnswerResponse(label="a", answered_by="central", distribution=[float("nan")]),
        AnswerResponse(label="a", answered_by="central", distribution=[1.5]),
    ],
)
def test_an_answer_that_cannot_be_used_is_a_failure(response):
    with _serving(lambda request, context: response) as (servicer, address), GrpcCentralClient(address) as client:
        with pytest.raises(EscalationFailed, match="cannot be used") as caught:
            client.answer(_request(), TIMEOUT_S)
        assert not caught.value.may_succeed_later
        (outcome,) = client.answer_many([_request()], TIMEOUT_S)
        assert isinstance(outcome, EscalationFailed)
        assert len(servicer.keys) == 2


def test_a_request_over_the_cap_is_not_sent():
    with (
        _serving(lambda request, context: _good(request)) as (servicer, address),
        GrpcCentralClient(address, max_message_bytes=1000) as client,
    ):
        outcomes = client.answer_many([_request("x" * 2000), _request("short")], TIMEOUT_S)
        assert isinstance(outcomes[0], EscalationFailed)
        assert not outcomes[0].may_succeed_later
        assert outcomes[1].label == "short"
        assert len(servicer.keys) == 1


def test_no_connection_is_made_before_the_first_call_and_a_closed_client_opens_a_new_one():
    client = GrpcCentralClient("127.0.0.1:9")
    assert client._channel is None
    with _serving(lambda request, context: _good(request)) as (_, address):
        client = GrpcCentralClient(address)
        assert client.answer(_request(), TIMEOUT_S).label
        client.close()
        assert client._channel is None
        assert client.answer(_request(), TIMEOUT_S).label
        client.close()
        client.close()


def test_nothing_to_ask_is_nothing_to_wait_for():
    assert GrpcCentralClient("127.0.0.1:9").answer_many([], TIMEOUT_S) == []


def test_a_try_has_no_more_time_than_is_left_to_the_caller():
    left: list[float] = []

    def script(request, context):
        left.append(context.time_remaining())
        return _good(request)

    with (
        _serving(script) as (_, address),
        GrpcCentralClient(address, retries=Retries(try_timeout_s=3000.0)) as client,
    ):
        client.answer(_request(), 30.0)
        client.answer_many([_request()], 30.0)
        client.answer(_request(), 10_000.0)
    # The wire rounds a deadline up, by less than a percent.
    assert left[0] < 31
    assert left[1] < 31
    assert 31 < left[2] < 3100
