"""`fedge bench fallback`: an escalation over mutual TLS beside a bare grpc.aio call with the same messages and certificates.

Central and the bare server run in one process of their own on loopback, central with a strong model that takes no time; the
agent (features, model, routing, both transactions) and the bare client ask by turns from this one. Medians of wall time.
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import grpc

from aggregator.central import serve
from aggregator.fleet.gateway import ServerTls
from benchmarks.inference import home_queries, joined, quantile, timed
from benchmarks.local_device import LABELS, central_service
from benchmarks.results import Result
from edge_client.daemon import AgentProcess
from edge_client.membership.channel import credentials
from edge_client.settings import DeviceHome
from fedge.wire import answer_request
from protos.fedge.central.v1.central_pb2 import PURPOSE_ESCALATION, AnswerRequest, AnswerResponse

CALLS = 1500
METHOD = "/bench.Bare/Answer"
TURN = 50


def benchmark(*, stage: Callable[[str], None], calls: int = CALLS) -> list[Result]:
    """The one case; ``stage`` is told what runs now."""
    with tempfile.TemporaryDirectory(prefix="fedge-bench-") as name:
        folder = Path(name)
        stage("making a device")
        home = joined(folder)
        with subprocess.Popen(
            [sys.executable, "-m", "benchmarks.fallback", str(folder / "fleet")],
            cwd=Path(__file__).resolve().parents[1],
            stdout=subprocess.PIPE,
            text=True,
        ) as server:
            try:
                assert server.stdout is not None
                central, bare = (int(port) for port in server.stdout.readline().split())
                text = home.settings_file.read_text(encoding="utf-8").replace("localhost:1", f"localhost:{central}")
                home.settings_file.write_text(text, encoding="utf-8")
                stage("escalations and bare calls, by turns")
                return [asyncio.run(fallback_call(home, bare, calls))]
            finally:
                server.terminate()


async def fallback_call(home: DeviceHome, bare: int, calls: int) -> Result:
    """The agent's `central` mode, its client alone, and the bare call."""
    queries = home_queries(calls)
    request = answer_request(
        idempotency_key="bare", device_id="device-1", query=queries[0], release_id="", purpose=PURPOSE_ESCALATION
    )
    process = AgentProcess(home)
    escalations: list[float] = []
    client: list[float] = []
    others: list[float] = []
    try:
        process.releases.restore()
        async with grpc.aio.secure_channel(f"localhost:{bare}", credentials(home)) as channel:
            call = channel.unary_unary(
                METHOD, request_serializer=AnswerRequest.SerializeToString, response_deserializer=AnswerResponse.FromString
            )
            for start in range(0, calls, TURN):
                for number, query in enumerate(queries[start : start + TURN]):
                    escalations.append(timed(partial(_asked, process, query)))
                    asked = AnswerRequest.FromString(request.SerializeToString())
                    asked.idempotency_key = f"client-{start + number}"
                    client.append(timed(partial(process.channel.answer, asked, 10.0)))
                for _ in range(TURN):
                    started = time.perf_counter()
                    await call(request)
                    others.append(time.perf_counter() - started)
    finally:
        process.close()
    warm = calls // 10
    return Result(
        bench="fallback.call",
        case={"tls": "mutual", "labels": len(LABELS), "calls": calls},
        unit="ms",
        ours=1000 * statistics.median(escalations[warm:]),
        peers={"grpc_aio": 1000 * statistics.median(others[warm:])},
        repetitions=len(escalations[warm:]),
        labels={"grpc_aio": "unary, mutual TLS, the same request and answer, a handler that does nothing"},
        detail={
            "client_alone": 1000 * statistics.median(client[warm:]),
            "p10": 1000 * quantile(escalations[warm:], 0.1),
            "p99": 1000 * quantile(escalations[warm:], 0.99),
        },
    )


def _asked(process: AgentProcess, query: str) -> None:
    answer = process.agent.ask(query, mode="central")
    assert answer.answered_by == "central", answer.reason


async def serve_both(folder: Path) -> None:
    """Central and the bare server, until this process is ended; their ports go to standard output."""
    tls = ServerTls(folder / "server.crt", folder / "server.key", folder / "ca.crt")
    central = await serve(central_service(time.time), tls=tls)
    answer = AnswerResponse(label=LABELS[0], distribution=[1.0] + [0.0] * (len(LABELS) - 1), answered_by="central")

    async def reply(request: AnswerRequest, context: object) -> AnswerResponse:
        return answer

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        reply, request_deserializer=AnswerRequest.FromString, response_serializer=AnswerResponse.SerializeToString
    )
    service, method = METHOD.strip("/").split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_secure_port("127.0.0.1:0", tls.credentials())
    await server.start()
    print(central.port, port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve_both(Path(sys.argv[1])))
