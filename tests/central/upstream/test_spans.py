"""The span of each question to upstream is in the trace of its own query, whichever batch it was computed in."""

from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import pytest

from aggregator.central import CentralService, Limits, Pricing
from aggregator.central.batching import Call
from aggregator.central.upstream.upstream import Upstream
from fedge.traces import OpenTelemetryTraces
from protos.fedge.central.v1.central_pb2 import AnswerResponse
from tests.central.upstream.conftest import BOOK, LABELS, Endpointed, completion, says

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra `traces` is not installed")

from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402


def test_queries_of_one_batch_are_each_traced_by_themselves_with_the_outcome(
    endpoint: Endpointed, make_upstream: Callable[..., Upstream], model: Any, ask: Any
) -> None:
    exporter, provider = InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces = OpenTelemetryTraces(provider.get_tracer("fedge"))
    endpoint.otherwise = lambda handler, asked: says(
        completion("no label of ours" if asked["messages"][1]["content"] == "2" else "label-7", usage=None)
    )(handler, asked)
    service = CentralService(
        model=model,
        model_name="numbers",
        labels=LABELS,
        pricing=Pricing.from_book(BOOK),
        limits=Limits(max_text_bytes=1000),
        clock=lambda: 0.0,
        traces=traces,
        upstream=make_upstream(traces=traces),
    )
    calls = []
    for number in (1, 2):
        with traces.span("central.answer"):
            calls.append(Call(ask(str(number), key=f"k{number}"), None, copy_context()))
    futures = calls[0].context.run(service.begin_many, calls)
    answered = [future.result(30) for future in futures if not isinstance(future, Exception)]
    assert [one.answered_by for one in answered if isinstance(one, AnswerResponse)] == ["upstream", "central"]
    assert model.batches == [["1", "2"]]
    spans = exporter.get_finished_spans()
    answers = [span.context for span in spans if span.name == "central.answer"]
    asked = {span.parent.span_id: span.attributes for span in spans if span.name == "central.upstream"}
    assert [asked[answer.span_id]["fedge.outcome"] for answer in answers] == ["answered", "unknown_label"]
    assert {attributes["fedge.tokens"] for attributes in asked.values()} == {"estimated"}
    told = {header["traceparent"].split("-")[1] for header in endpoint.headers}
    assert told == {f"{answer.trace_id:032x}" for answer in answers} and len(told) == 2
