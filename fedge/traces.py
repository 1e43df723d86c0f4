"""Traces: one from a device's query through central to whatever central asks, carried as W3C trace context.

`NoTraces` is what runs without the extra and costs nothing. `open_traces` loads OpenTelemetry, and only it does. Attributes
are counts and names that fedge itself made: never a query, an answer or a device's id.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from fedge.errors import InputError

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer


class Traces(Protocol):
    """Where spans go."""

    def span(
        self, name: str, *, carried: Mapping[str, str] | None = None, **attributes: str | int
    ) -> AbstractContextManager[None]:
        """A span for as long as the block; child of the one around it, or of the one that ``carried`` headers name."""

    def note(self, **attributes: str | int) -> None:
        """Attributes of the span around it that are known only at its end."""

    def headers(self) -> dict[str, str]:
        """What the next service is to be told, so that its spans belong to the present one."""


class NoTraces:
    """Where nobody traces."""

    def span(
        self, name: str, *, carried: Mapping[str, str] | None = None, **attributes: str | int
    ) -> AbstractContextManager[None]:
        """Nothing."""
        return nullcontext()

    def note(self, **attributes: str | int) -> None:
        """Nothing."""

    def headers(self) -> dict[str, str]:
        """None."""
        return {}


class OpenTelemetryTraces:
    """Spans of an OpenTelemetry tracer."""

    def __init__(self, tracer: "Tracer") -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def span(self, name: str, *, carried: Mapping[str, str] | None = None, **attributes: str | int) -> Iterator[None]:
        """As the protocol says. An exception marks the span as failed; its text stays out of it."""
        from opentelemetry.trace import StatusCode

        parent = None if carried is None else self._propagator.extract(carried)
        named = {f"fedge.{key}": value for key, value in attributes.items()}
        with self._tracer.start_as_current_span(
            name, context=parent, attributes=named, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except BaseException:
                span.set_status(StatusCode.ERROR)
                raise

    def note(self, **attributes: str | int) -> None:
        """As the protocol says."""
        from opentelemetry.trace import get_current_span

        get_current_span().set_attributes({f"fedge.{key}": value for key, value in attributes.items()})

    def headers(self) -> dict[str, str]:
        """``traceparent``, and ``tracestate`` where there is one."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier


def open_traces(endpoint: str | None, *, service: str) -> Traces:
    """Traces that are sent to ``endpoint`` (OTLP over HTTP), or none. Raises InputError where the extra is missing."""
    if endpoint is None:
        return NoTraces()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise InputError(f"traces_endpoint is {endpoint}: install the extra for it: pip install 'fedge[traces]'") from None
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return OpenTelemetryTraces(provider.get_tracer("fedge"))
