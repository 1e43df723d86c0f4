"""Who calls, by the certificate alone: every kind of call is guarded, and central goes by the same rule."""

import asyncio
import ssl
from contextlib import contextmanager
from threading import Semaphore, Thread

import grpc
import pytest

from aggregator.central import CentralService, Limits, Pricing, ServerTls, serve_in_thread
from aggregator.fleet.authentication import caller, check_speaks_for_itself
from aggregator.fleet.gateway import serve_door
from aggregator.fleet.published import PublishedRevocations
from aggregator.settings import LimitsSettings
from edge_client.membership.channel import credentials, is_marked_for_later
from fedge.errors import VerificationError
from fedge.wire import answer_request
from protos.fedge.central.v1 import central_pb2_grpc
from protos.fedge.central.v1.central_pb2 import PURPOSE_ESCALATION, DescribeRequest

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class Echo(grpc.GenericRpcHandler):
    """Says who calls, in each of gRPC's four ways, and notes that it was reached."""

    def __init__(self) -> None:
        self.reached: list[str] = []

    def service(self, details):
        kind = details.method.split("/")[-1]

        async def one(request, context):
            self.reached.append(kind)
            return caller(context).encode()

        async def many(request, context):
            self.reached.append(kind)
            yield caller(context).encode()

        handle = getattr(grpc, f"{kind}_rpc_method_handler")
        return handle(many if kind.endswith("stream") else one)


@contextmanager
def echoing(federation, echo, limits=None):
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    tls = ServerTls(federation.home.tls / "server.crt", federation.home.tls / "server.key", federation.home.tls / "ca.crt")
    served = serve_door(
        "127.0.0.1:0",
        tls,
        services=[lambda server: server.add_generic_rpc_handlers([echo])],
        is_revoked=PublishedRevocations(federation.home).is_revoked,
        clock=federation.clock,
        limits=limits,
    )
    door = asyncio.run_coroutine_threadsafe(served, loop).result()
    try:
        yield door.port
    finally:
        asyncio.run_coroutine_threadsafe(door.stop(0.5), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def call(channel, kind):
    method = getattr(channel, kind)(f"/test.Echo/{kind}")
    argument = iter([b"x"]) if kind.startswith("stream") else b"x"
    answer = method(argument, timeout=20)
    return b"".join(answer) if kind.endswith("stream") else answer


def test_every_kind_of_call_knows_its_caller_and_is_refused_to_a_revoked_one(federation):
    home, echo = federation.enroll("kitchen"), Echo()
    with (
        echoing(federation, echo) as port,
        grpc.secure_channel(f"localhost:{port}", credentials(home)) as channel,
    ):
        assert [call(channel, kind) for kind in KINDS] == [b"kitchen"] * 4
        federation.revoke("kitchen")
        for kind in KINDS:
            with pytest.raises(grpc.RpcError) as refusal:
                call(channel, kind)
            assert refusal.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert echo.reached == list(KINDS)


def test_a_server_certificate_cannot_call(federation):
    """It is the fleet authority's as well; only what it is for differs."""
    federation.enroll("kitchen")
    echo, tls = Echo(), federation.home.tls
    own = grpc.ssl_channel_credentials(
        (tls / "ca.crt").read_bytes(), (tls / "server.key").read_bytes(), (tls / "server.crt").read_bytes()
    )
    with (
        echoing(federation, echo) as port,
        grpc.secure_channel(f"localhost:{port}", own) as channel,
        pytest.raises(grpc.RpcError),
    ):
        call(channel, "unary_unary")
    assert echo.reached == []


@pytest.mark.parametrize(
    "auth",
    [
        {},
        {"ssl_tls_version": [b"TLSv1.2"], "x509_pem_cert": [b"x"]},
        {"ssl_tls_version": [b"TLSv1.3"]},
        {"ssl_tls_version": [b"TLSv1.3"], "x509_pem_cert": [b"x"]},
    ],
)
def test_no_device_is_named_without_tls_1_3_and_one_readable_certificate(auth):
    class Context:
        def auth_context(self):
            return auth

    with pytest.raises(VerificationError):
        caller(Context())
    with pytest.raises(VerificationError):
        check_speaks_for_itself(Context(), "kitchen")


class Weather:
    def predict(self, queries):
        import numpy as np

        return np.full((len(queries), 2), 0.5, dtype=np.float32)


def test_central_refuses_a_revoked_device_and_another_ones_name_by_the_same_rule(federation):
    home = federation.enroll("kitchen")
    federation.enroll("cellar")
    service = CentralService(
        model=Weather(),
        model_name="weather",
        labels=("sun", "rain"),
        pricing=Pricing("book", lambda query: 0.0),
        limits=Limits(max_text_bytes=100),
        clock=federation.clock,
        max_remembered=10,
        max_age_s=100.0,
    )
    tls = ServerTls(federation.home.tls / "server.crt", federation.home.tls / "server.key", federation.home.tls / "ca.crt")
    revoked = PublishedRevocations(federation.home).is_revoked

    def asked(device: str):
        return answer_request(
            idempotency_key=device, device_id=device, query="now?", release_id="", purpose=PURPOSE_ESCALATION
        )

    with (
        serve_in_thread(service, grace_s=0.5, tls=tls, is_revoked=revoked, clock=federation.clock) as port,
        grpc.secure_channel(f"localhost:{port}", credentials(home)) as channel,
    ):
        assert federation.spoken(home, port, ssl.TLSVersion.TLSv1_2) is None
        assert federation.spoken(home, port, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
        stub = central_pb2_grpc.CentralStub(channel)
        assert stub.Answer(asked("kitchen"), timeout=20).label in ("sun", "rain")
        with pytest.raises(grpc.RpcError, match="does not name device 'cellar'"):
            stub.Answer(asked("cellar"), timeout=20)
        federation.revoke("kitchen")
        for method, request in ((stub.Answer, asked("kitchen")), (stub.Describe, DescribeRequest())):
            with pytest.raises(grpc.RpcError, match="revoked"):
                method(request, timeout=20)


def test_a_device_over_its_calls_is_told_which_limit_and_that_it_passes_while_others_go_on(federation):
    loud, quiet, echo = federation.enroll("loud"), federation.enroll("quiet"), Holding()
    with (
        echoing(federation, echo, LimitsSettings(gateway_calls_per_device=3)) as port,
        grpc.secure_channel(f"localhost:{port}", credentials(loud)) as first,
        grpc.secure_channel(f"localhost:{port}", credentials(loud)) as second,
        grpc.secure_channel(f"localhost:{port}", credentials(quiet)) as other,
    ):
        held = [channel.unary_unary("/test.Hold/hold").future(b"", timeout=60) for channel in (first, second, first)]
        echo.wait_for(3)
        with pytest.raises(grpc.RpcError, match="gateway_calls_per_device") as refusal:
            second.unary_unary("/test.Hold/hold")(b"", timeout=20)
        assert refusal.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert is_marked_for_later(refusal.value)
        others = other.unary_unary("/test.Hold/hold").future(b"", timeout=60)
        echo.wait_for(4)
        echo.release()
        assert [call.result() for call in (*held, others)] == [b"loud"] * 3 + [b"quiet"]
        assert second.unary_unary("/test.Hold/hold")(b"", timeout=20) == b"loud"  # what it held is free again


class Holding(grpc.GenericRpcHandler):
    """Answers with the caller's name once it may."""

    def __init__(self) -> None:
        self.entered = Semaphore(0)
        self.seen = 0
        self.open = False

    def service(self, details):
        async def hold(request, context):
            self.entered.release()
            while not self.open:
                await asyncio.sleep(0.01)
            return caller(context).encode()

        return grpc.unary_unary_rpc_method_handler(hold)

    def wait_for(self, calls: int) -> None:
        """Wait until so many calls have come in since the start."""
        while self.seen < calls:
            assert self.entered.acquire(timeout=30)
            self.seen += 1

    def release(self) -> None:
        self.open = True
