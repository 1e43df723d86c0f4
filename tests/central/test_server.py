"""The whole way: the device's client, a real socket, a real server in a thread, the service behind it."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from aggregator.central import ServerOptions, serve, serve_in_thread
from edge_client.inference.escalation import EscalationFailed, GrpcCentralClient, Retries
from fedge.errors import InputError
from protos.fedge.central.v1 import central_pb2_grpc
from protos.fedge.central.v1.central_pb2 import PURPOSE_ESCALATION, AnswerResponse

TIMEOUT_S = 30.0


@pytest.fixture
def port(service):
    with serve_in_thread(service, grace_s=0.5) as port:
        yield port


@pytest.fixture
def client(port):
    with GrpcCentralClient(f"127.0.0.1:{port}") as client:
        yield client


def test_an_answer_comes_back_over_the_wire(client, ask):
    response = client.answer(ask("17"), TIMEOUT_S)
    assert (response.label, response.answered_by, response.price_book) == ("label-17", "central", "book-1")
    assert client.describe(TIMEOUT_S).labels[63] == "label-63"


def test_64_callers_at_once_each_get_their_own_answer(client, service, ask):
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda i: client.answer(ask(str(i), key=f"k{i}", device=f"d{i}"), TIMEOUT_S), range(64)))
    assert [answer.label for answer in answers] == [f"label-{i}" for i in range(64)]
    assert [max(range(64), key=answer.distribution.__getitem__) for answer in answers] == list(range(64))
    assert sorted(device for device, _ in service.served()) == sorted(f"d{i}" for i in range(64))


def test_callers_that_come_together_are_answered_by_few_calls_of_the_model(client, model, ask):
    model.may_run.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.answer, ask("0", key="first"), TIMEOUT_S)
        assert model.is_running.wait(TIMEOUT_S)
        many = pool.submit(client.answer_many, [ask(str(i), key=f"k{i}") for i in range(32)], TIMEOUT_S)
        with GrpcCentralClient(client._address) as other:  # the event loop is free although the model is busy
            assert other.describe(TIMEOUT_S).model == "numbers"
        model.may_run.set()
        assert first.result().label == "label-0"
        assert [answer.label for answer in many.result()] == [f"label-{i}" for i in range(32)]


def test_results_of_many_come_in_order_with_failures_in_their_places(client, ask):
    requests = [ask(str(i % 64), key=f"k{i}") for i in range(200)]
    requests[50].purpose = 0
    requests[51].idempotency_key = "k0"
    # Up to 64 are in flight at once: which of the two came first must not be left to chance.
    client.answer(requests[0], TIMEOUT_S)
    outcomes = client.answer_many(requests, TIMEOUT_S)
    failures = {i: outcome.status for i, outcome in enumerate(outcomes) if isinstance(outcome, EscalationFailed)}
    assert failures == {50: grpc.StatusCode.INVALID_ARGUMENT, 51: grpc.StatusCode.ALREADY_EXISTS}
    assert all(
        outcome.label == f"label-{i % 64}" for i, outcome in enumerate(outcomes) if isinstance(outcome, AnswerResponse)
    )


def test_a_repeated_request_is_charged_once(client, service, model, ask):
    assert client.answer(ask("17"), TIMEOUT_S) == client.answer(ask("17"), TIMEOUT_S)
    assert service.served()["dev", PURPOSE_ESCALATION].queries == 1
    assert model.batches == [["17"]]


@pytest.mark.parametrize(
    ("query", "fields", "status", "said"),
    [
        ("17", {"purpose": 0}, grpc.StatusCode.INVALID_ARGUMENT, "purpose 0 is unknown"),
        ("1" * 1001, {}, grpc.StatusCode.INVALID_ARGUMENT, "1001 bytes"),
        ("5", {"idempotency_key": "taken"}, grpc.StatusCode.ALREADY_EXISTS, "'taken'"),
        ("17", {"device_id": "stolen"}, grpc.StatusCode.PERMISSION_DENIED, "revoked"),
        ("99", {}, grpc.StatusCode.INTERNAL, "the model failed"),
    ],
)
def test_each_refusal_has_its_status_and_one_clear_line(service, ask, query, fields, status, said):
    with (
        serve_in_thread(service, grace_s=0.5, is_revoked=lambda device_id: device_id == "stolen") as port,
        GrpcCentralClient(f"127.0.0.1:{port}") as client,
    ):
        client.answer(ask("17", key="taken"), TIMEOUT_S)
        with pytest.raises(EscalationFailed, match=said) as caught:
            client.answer(ask(query, **fields), TIMEOUT_S)
        assert caught.value.status == status
        assert "\n" not in str(caught.value)
        assert not caught.value.may_succeed_later


def test_a_deadline_that_passes_ends_the_call_and_the_query_is_not_lost_for_a_retry(client, model, ask):
    model.may_run.clear()
    with pytest.raises(EscalationFailed) as caught:
        client.answer(ask("17"), 0.3)
    assert caught.value.status == grpc.StatusCode.DEADLINE_EXCEEDED
    assert caught.value.may_succeed_later
    model.may_run.set()
    assert client.answer(ask("17"), TIMEOUT_S).label == "label-17"
    assert model.batches == [["17"]]  # the first try was computed after all, and the second took its answer


def test_a_message_over_the_cap_is_refused_and_not_tried_again(service, ask):
    waits = []
    with (
        serve_in_thread(service, grace_s=0.5, options=ServerOptions(max_message_bytes=10_000)) as port,
        GrpcCentralClient(f"127.0.0.1:{port}", sleep=waits.append) as client,
    ):
        with pytest.raises(EscalationFailed) as caught:
            client.answer(ask("1" * 20_000), TIMEOUT_S)
        assert caught.value.status == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert waits == []
        assert client.answer(ask("17"), TIMEOUT_S).label == "label-17"


def test_too_many_waiting_is_resource_exhausted(service, model, ask):
    with (
        serve_in_thread(service, grace_s=0.5, options=ServerOptions(max_waiting=1)) as port,
        GrpcCentralClient(f"127.0.0.1:{port}") as client,
        ThreadPoolExecutor(1) as pool,
    ):
        model.may_run.clear()
        first = pool.submit(client.answer, ask("0", key="first"), TIMEOUT_S)
        assert model.is_running.wait(TIMEOUT_S)
        outcomes = client.answer_many([ask("1", key=f"k{i}") for i in range(3)], 1.0)
        model.may_run.set()
        assert first.result().label == "label-0"
    assert sorted(outcome.status.name for outcome in outcomes) == ["DEADLINE_EXCEEDED"] + ["RESOURCE_EXHAUSTED"] * 2
    assert all(outcome.may_succeed_later for outcome in outcomes)


def test_a_refusal_that_passes_is_tried_again_with_a_growing_wait(service, model, ask):
    waits = []

    def wait_and_make_room(wait_s: float) -> None:
        waits.append(wait_s)
        model.may_run.set()
        blocking.result()

    with (
        serve_in_thread(service, grace_s=0.5, options=ServerOptions(max_waiting=1)) as port,
        GrpcCentralClient(f"127.0.0.1:{port}") as other,
        GrpcCentralClient(f"127.0.0.1:{port}", sleep=wait_and_make_room) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        model.may_run.clear()
        first = pool.submit(other.answer, ask("0", key="first", device="busy"), TIMEOUT_S)
        assert model.is_running.wait(TIMEOUT_S)
        blocking = pool.submit(other.answer, ask("1", key="second", device="busy"), TIMEOUT_S)
        outcomes = client.answer_many([ask(str(i), key=f"k{i}") for i in (2, 3)], TIMEOUT_S)
        assert {first.result().label} == {"label-0"}
    assert [outcome.label for outcome in outcomes] == ["label-2", "label-3"]
    assert waits


def test_the_client_recovers_when_the_server_is_killed_and_started_again(service, model, ask):
    with ExitStack() as stack:

        def sleep_and_restart(wait_s: float) -> None:
            # Between two tries: so the first one is sure to find the server dead.
            if not restarts:
                restarts.append(stack.enter_context(serve_in_thread(service, grace_s=0.5, address=client._address)))
            time.sleep(wait_s)

        restarts: list[int] = []
        with serve_in_thread(service, grace_s=0.0) as port:
            client = stack.enter_context(GrpcCentralClient(f"127.0.0.1:{port}", sleep=sleep_and_restart))
            before = client.answer(ask("17"), TIMEOUT_S)
        assert client.answer(ask("17"), TIMEOUT_S) == before  # the service remembers: nothing is charged twice
        assert restarts == [port]
        assert client.answer(ask("18", key="new"), TIMEOUT_S).label == "label-18"
        assert model.batches == [["17"], ["18"]]


def test_health_is_said_for_each_service_and_ends_with_the_server(service):
    async def scenario():
        server = await serve(service)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            central = health_pb2.HealthCheckRequest(service="fedge.central.v1.Central")
            serving = [(await stub.Check(request)).status for request in (central, health_pb2.HealthCheckRequest())]
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Check(health_pb2.HealthCheckRequest(service="another"))
            watch = stub.Watch(central)
            first = (await watch.read()).status
            stopping = asyncio.create_task(server.stop(grace_s=0.5))
            second = (await watch.read()).status
            await stopping
            await server.wait()
        return serving, caught.value.code(), first, second

    serving, unknown, first, second = asyncio.run(scenario())
    assert serving == [health_pb2.HealthCheckResponse.SERVING] * 2
    assert unknown == grpc.StatusCode.NOT_FOUND
    assert (first, second) == (health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING)


def test_reflection_lists_the_service(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        (reply,) = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    assert "fedge.central.v1.Central" in {found.name for found in reply.list_services_response.service}


def test_a_running_call_is_finished_when_the_server_stops_with_grace(service, model, ask):
    async def scenario():
        server = await serve(service)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            model.may_run.clear()
            call = asyncio.ensure_future(central_pb2_grpc.CentralStub(channel).Answer(ask("17")))
            await asyncio.to_thread(model.is_running.wait, TIMEOUT_S)
            stopping = asyncio.create_task(server.stop(grace_s=TIMEOUT_S))
            await asyncio.sleep(0.05)
            model.may_run.set()
            answer = await call
            await stopping
            return answer.label

    assert asyncio.run(scenario()) == "label-17"


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "example.org:0"])
def test_serving_beyond_loopback_without_tls_is_refused(service, address):
    with pytest.raises(InputError, match="without TLS"), serve_in_thread(service, address=address):
        pass


def test_a_taken_port_is_said(service, port):
    with (
        pytest.raises(InputError, match=f"cannot listen on 127.0.0.1:{port}"),
        serve_in_thread(service, address=f"127.0.0.1:{port}"),
    ):
        pass


def test_without_a_server_the_client_gives_up_within_its_time(ask):
    with (
        GrpcCentralClient("127.0.0.1:9", retries=Retries(first_wait_s=0.01, max_wait_s=0.02)) as client,
        pytest.raises(EscalationFailed) as caught,
    ):
        client.answer(ask("17"), 0.5)
    assert caught.value.status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert caught.value.may_succeed_later
