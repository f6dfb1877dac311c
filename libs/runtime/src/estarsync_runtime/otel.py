"""Traces by OpenTelemetry, sent to a collector by OTLP over HTTP. Import it only where tracing is on.

Where to send, with which headers, how much to sample, how many spans to keep: the SDK reads that from its own
standard variables (`OTEL_EXPORTER_OTLP_*`, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_*`, `OTEL_RESOURCE_ATTRIBUTES`).
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from threading import Thread

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, get_current_span
from opentelemetry.trace import Span as ApiSpan
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from typing_extensions import override

from estarsync_core.clock import Clock
from estarsync_core.errors import EstarsyncError
from estarsync_core.headers import TRACEPARENT
from estarsync_runtime.tracing import Attributes, Role, Span, Tracing

_KINDS = {
    Role.INTERNAL: SpanKind.INTERNAL,
    Role.SERVER: SpanKind.SERVER,
    Role.CLIENT: SpanKind.CLIENT,
    Role.PRODUCER: SpanKind.PRODUCER,
    Role.CONSUMER: SpanKind.CONSUMER,
}
_CLOSE_SECONDS = 5.0
_W3C = TraceContextTextMapPropagator()
_SCOPE = "estarsync"


class OtelSpan(Span):
    """A span that is recorded, unless the sampler left its trace out."""

    def __init__(self, span: ApiSpan, clock: Clock) -> None:
        self._span = span
        self._clock = clock
        found = span.get_span_context()
        self._ids = {"trace_id": f"{found.trace_id:032x}", "span_id": f"{found.span_id:016x}"}
        flags = int(found.trace_flags)
        self.traceparent = f"00-{self._ids['trace_id']}-{self._ids['span_id']}-{flags:02x}".encode()

    @override
    def tell(self, attributes: Attributes) -> None:
        self._span.set_attributes(dict(attributes))

    @override
    def happened(self, name: str, attributes: Attributes | None = None) -> None:
        self._span.add_event(name, dict(attributes or {}), _nanoseconds(self._clock))

    @override
    def link(self, traceparent: bytes) -> None:
        found = _context(traceparent)
        if found is not None:
            self._span.add_link(get_current_span(found).get_span_context())

    @override
    def end(self, failure: str | None = None) -> None:
        if failure is not None:
            self._span.set_status(Status(StatusCode.ERROR, failure))
        self._span.end(_nanoseconds(self._clock))

    @override
    @contextmanager
    def logged(self) -> Iterator[None]:
        with structlog.contextvars.bound_contextvars(**self._ids):
            yield


class OtelTracing(Tracing):
    """Makes spans that are recorded.

    Args:
        service: its name, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES gives another.
        instance: which of its processes.
        clock: when spans begin and end.
        processor: gets the spans that are over.
    """

    on = True

    def __init__(self, service: str, instance: str, clock: Clock, processor: SpanProcessor) -> None:
        own = {
            "service.name": service,
            "service.namespace": _SCOPE,
            "service.version": version("estarsync-runtime"),
            "service.instance.id": instance,
        }
        resource = Resource.create(own).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(_SCOPE, own["service.version"])
        self._clock = clock

    @override
    def begin(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        role: Role = Role.INTERNAL,
        parent: bytes | None = None,
        links: Iterable[bytes] = (),
    ) -> Span:
        others = [found for each in links if (found := _context(each)) is not None]
        span = self._tracer.start_span(
            name,
            # Never the thread's own context: what a span belongs to is said, not guessed.
            context=(None if parent is None else _context(parent)) or Context(),
            kind=_KINDS[role],
            attributes=dict(attributes or {}),
            links=[Link(get_current_span(each).get_span_context()) for each in others],
            start_time=_nanoseconds(self._clock),
        )
        return OtelSpan(span, self._clock)

    @override
    @contextmanager
    def span(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        role: Role = Role.INTERNAL,
        parent: bytes | None = None,
        links: Iterable[bytes] = (),
    ) -> Iterator[Span]:
        span = self.begin(name, attributes, role=role, parent=parent, links=links)
        failure: str | None = None
        try:
            with span.logged():
                yield span
        except BaseException as error:
            failure = _words(error)
            raise
        finally:
            span.end(failure)

    @override
    def close(self) -> None:
        # The SDK's own time-outs are for each request, and there may be several: the pod's grace is not theirs.
        closing = Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)


def exporting() -> SpanProcessor:
    """Sends spans to the collector of the standard variables, in a thread of its own; a full queue drops them."""
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # a line for what is lost, none for each try
    return BatchSpanProcessor(OTLPSpanExporter())


def _context(traceparent: bytes) -> Context | None:
    """What a header says; None where it says nothing that can be used."""
    carrier = {TRACEPARENT: traceparent.decode("ascii", "replace")}
    found = _W3C.extract(carrier, Context())
    return found if get_current_span(found).get_span_context().is_valid else None


def _nanoseconds(clock: Clock) -> int:
    return int(clock.now().timestamp() * 1_000_000) * 1000


def _words(error: BaseException) -> str:
    """Why something failed: our own errors say that without any value of a record; of others, the kind must do."""
    return str(error) if isinstance(error, EstarsyncError) else type(error).__name__
