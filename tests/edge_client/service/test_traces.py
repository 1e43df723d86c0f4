"""One trace from a device's query over real mutual TLS through central to a real HTTP server that central asks."""

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from aggregator.central import serve_in_thread
from aggregator.central.upstream.config import open_upstream
from aggregator.settings import UpstreamSettings
from aggregator.workbench.workloads import WorkloadFacts
from benchmarks.local_device import LABELS, central_service
from fedge.costs import PriceBook
from fedge.errors import InputError
from fedge.traces import NoTraces, OpenTelemetryTraces, open_traces

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra `traces` is not installed")

from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402

QUERY = "turn off the lights in the secret room"


@pytest.fixture
def endpoint() -> Iterator[tuple[int, list[str]]]:
    """An HTTP server that plays a chat-completions endpoint: its port, and the trace context that it was told."""
    told: list[str] = []
    message = {"role": "assistant", "content": '{"label": "label-7"}'}
    said = {
        "choices": [{"message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 90, "completion_tokens": 6},
    }

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(self.headers.get("traceparent", ""))
            self.rfile.read(int(self.headers["content-length"]))
            body = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1], told
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A key that must be in no span."""
    path = tmp_path / "key"
    path.write_text("sk-secret\n")
    path.chmod(0o600)
    return path


def traces_of(exporter: InMemorySpanExporter) -> OpenTelemetryTraces:
    provider = sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return OpenTelemetryTraces(provider.get_tracer("fedge"))


def test_a_query_is_one_trace_from_the_device_through_central_to_what_upstream_receives(
    make_world: Any, endpoint: tuple[int, list[str]], key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_device, on_server = InMemorySpanExporter(), InMemorySpanExporter()
    monkeypatch.setattr("edge_client.daemon.open_traces", lambda endpoint, service: traces_of(on_device))
    port, told = endpoint
    world, central, book = make_world(), traces_of(on_server), PriceBook.load_default()
    settings = UpstreamSettings(
        url=f"http://127.0.0.1:{port}/v1", model="test-model", api_key_file=key_file, when="always", price="frontier"
    )
    facts = WorkloadFacts(
        name="home", labels=LABELS, oos_label=None, topics={}, data_sha256="", note="", queries_per_round=1, pixels=0
    )
    upstream = open_upstream(settings, facts, book, figures=tmp_path / "upstream.json", traces=central)
    assert upstream is not None
    service = central_service(time.time)
    service._traces, service._upstream = central, upstream
    with (
        serve_in_thread(service, tls=world.fleet.server_tls(), grace_s=0.2, traces=central) as world.port,
        world.agent(world.home()) as api,
    ):
        answer = api.ask(QUERY, mode="central")
    upstream.close()
    assert (answer["answer"], answer["answered_by"]) == ("label-7", "upstream")
    assert answer["usd"] == pytest.approx(book.models["frontier"].usd(90, 6), abs=1e-6)  # and a little of the device's own
    here = {span.name: span for span in on_device.get_finished_spans()}
    there = {span.name: span for span in on_server.get_finished_spans()}
    assert here.keys() == {"device.ask", "device.inference", "device.escalation"}
    assert there.keys() == {"central.answer", "central.model", "central.upstream"}
    spans = here | there
    assert len({span.context.trace_id for span in spans.values()}) == 1
    names = {span.context.span_id: name for name, span in spans.items()}
    assert {name: names[span.parent.span_id] if span.parent else None for name, span in spans.items()} == {
        "device.ask": None,
        "device.inference": "device.ask",
        "device.escalation": "device.ask",
        "central.answer": "device.escalation",
        "central.model": "central.answer",
        "central.upstream": "central.answer",
    }
    assert dict(spans["central.upstream"].attributes) == {
        "fedge.model": "test-model", "fedge.outcome": "answered", "fedge.tokens_in": 90, "fedge.tokens_out": 6,
    }  # fmt: skip
    context = spans["central.upstream"].context
    assert [header.rpartition("-")[0] for header in told] == [f"00-{context.trace_id:032x}-{context.span_id:016x}"]
    everything = "".join(span.to_json() for span in spans.values())
    assert "lights" not in everything and "device-1" not in everything and "sk-secret" not in everything


def test_a_span_that_fails_says_so_and_not_why() -> None:
    exporter = InMemorySpanExporter()
    with pytest.raises(ValueError, match="secret room"), traces_of(exporter).span("device.ask"):
        raise ValueError(QUERY)
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code.name == "ERROR" and "secret" not in span.to_json()


def test_without_an_address_nothing_is_traced() -> None:
    assert isinstance(open_traces(None, service="fedge-device"), NoTraces) and NoTraces().headers() == {}


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(InputError, match=r"pip install 'fedge\[traces\]'"):
        open_traces("http://127.0.0.1:4318/v1/traces", service="fedge-device")
