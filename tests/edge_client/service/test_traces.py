"""One trace from a device's query over real mutual TLS through central to a real HTTP server that central's model asks."""

import time
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import numpy as np
import pytest

from aggregator.central import serve_in_thread
from benchmarks.local_device import central_service
from fedge.errors import InputError
from fedge.traces import NoTraces, OpenTelemetryTraces, open_traces

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra `traces` is not installed")

from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402

QUERY = "turn off the lights in the secret room"


@pytest.fixture
def upstream() -> Iterator[tuple[int, list[str]]]:
    """An HTTP server that notes the trace context it is told: its port, and what it was told."""
    told: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(self.headers.get("traceparent", ""))
            self.send_response(200)
            self.end_headers()

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


class Asking:
    """A strong model that asks an upstream server before it answers."""

    def __init__(self, model: Any, port: int, traces: OpenTelemetryTraces) -> None:
        self.model, self.port, self.traces = model, port, traces

    def predict(self, queries: list[Any]) -> np.ndarray:
        with self.traces.span("upstream.call"):
            connection = HTTPConnection("127.0.0.1", self.port)
            connection.request("POST", "/v1/chat/completions", b"{}", self.traces.headers())
            assert connection.getresponse().status == 200
            connection.close()
        return self.model.predict(queries)


def traces_of(exporter: InMemorySpanExporter) -> OpenTelemetryTraces:
    provider = sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return OpenTelemetryTraces(provider.get_tracer("fedge"))


def test_a_query_is_one_trace_from_the_device_to_the_upstream_server(
    make_world: Any, upstream: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_device, on_server = InMemorySpanExporter(), InMemorySpanExporter()
    monkeypatch.setattr("edge_client.process.open_traces", lambda endpoint, service: traces_of(on_device))
    port, told = upstream
    world, central = make_world(), traces_of(on_server)
    service = central_service(time.time)
    service._model, service._traces = Asking(service._model, port, central), central
    with (
        serve_in_thread(service, tls=world.fleet.server_tls(), grace_s=0.2, traces=central) as world.port,
        world.agent(world.home()) as api,
    ):
        assert api.ask(QUERY, mode="central")["answered_by"] == "central"
    here = {span.name: span for span in on_device.get_finished_spans()}
    there = {span.name: span for span in on_server.get_finished_spans()}
    assert here.keys() == {"device.ask", "device.inference", "device.escalation"}
    assert there.keys() == {"central.answer", "central.model", "upstream.call"}
    spans = here | there
    assert len({span.context.trace_id for span in spans.values()}) == 1
    names = {span.context.span_id: name for name, span in spans.items()}
    assert {name: names[span.parent.span_id] if span.parent else None for name, span in spans.items()} == {
        "device.ask": None,
        "device.inference": "device.ask",
        "device.escalation": "device.ask",
        "central.answer": "device.escalation",
        "central.model": "central.answer",
        "upstream.call": "central.model",
    }
    context = spans["upstream.call"].context
    assert [header.rpartition("-")[0] for header in told] == [f"00-{context.trace_id:032x}-{context.span_id:016x}"]
    everything = "".join(span.to_json() for span in spans.values())
    assert "lights" not in everything and "device-1" not in everything


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
