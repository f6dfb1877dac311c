"""Traces: nothing at all where they are off; where they are on, spans that belong together and tell nothing personal."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from estarsync_core.entities import Entity, Lane, Version
from estarsync_core.errors import ConfigurationError, RetryLater
from estarsync_core.headers import EventHeaders, RawHeaders, traceparent_of
from estarsync_core.mapping.mapper import Mapper
from estarsync_core.profile import load_profile
from estarsync_core.topics import raw_topic
from estarsync_runtime.avro import AvroCodec
from estarsync_runtime.otel import OtelTracing
from estarsync_runtime.settings import ServiceSettings, load
from estarsync_runtime.testing import FakeClock
from estarsync_runtime.tracing import OFF, Role, tracing
from sandbox.estar import profile_path
from sandbox.estar.generate import generate
from sandbox.estar.soap import ShopSandbox
from transformer.handler import DEAD_LETTER, Handler, RawEvent
from transformer.heading import Again
from transformer.traced import TracedHandler

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PAGE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER_PAGE = b"00-1af7651916cd43dd8448eb211c80319c-c7ad6b7169203331-01"
PROFILE = """
websites:
  "1": {currency: NZD, product_url: "https://shop.example/p/{id}", image_base: "https://shop.example"}
"""
HANDLER = Handler(Mapper(load_profile(PROFILE, "test")), AvroCodec(), "", "pod-0")
VALUE = (
    b'{"product": {"ID": "5", "Title": "Tee", "Price": "9.95", "SalePrice": "1"}, "item": {"Barcode": "S"}}'
)


class Recorder(NamedTuple):
    """Tracing whose spans stay in memory."""

    tracing: OtelTracing
    clock: FakeClock
    exporter: InMemorySpanExporter

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if name in {None, span.name}]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    exporter, clock = InMemorySpanExporter(), FakeClock(NOW)
    made = OtelTracing("toy", "toy-0", clock, SimpleSpanProcessor(exporter))
    yield Recorder(made, clock, exporter)
    made.close()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    return monkeypatch.setenv


def trace_id(span: ReadableSpan) -> int:
    return own(span)[0]


def traceparent(span: ReadableSpan) -> bytes:
    assert span.context is not None
    flags = int(span.context.trace_flags)
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{flags:02x}".encode()


def own(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def parent(span: ReadableSpan) -> tuple[int, int] | None:
    return None if span.parent is None else (span.parent.trace_id, span.parent.span_id)


def facts(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


# Off


def test_nothing_is_traced_unless_a_collector_is_named(environment: Any) -> None:
    with tracing("toy", load(ServiceSettings), FakeClock()) as found:
        assert found is OFF
    environment("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    assert not load(ServiceSettings).traced
    environment("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    assert load(ServiceSettings).traced
    for name, value in (("OTEL_TRACES_EXPORTER", "none"), ("OTEL_SDK_DISABLED", "TRUE")):
        environment(name, value)
        assert not load(ServiceSettings).traced
        environment(name, "")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "only http/protobuf is spoken"),
        ("OTEL_TRACES_EXPORTER", "jaeger", "there are otlp and none"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4318", "give the collector's URL"),
    ],
)
def test_a_collector_that_can_not_be_spoken_to_is_said(
    environment: Any, name: str, value: str, said: str
) -> None:
    environment("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    environment(name, value)
    with pytest.raises(ConfigurationError, match=f"{name}: .*{said}"):
        load(ServiceSettings)


def test_a_missing_library_is_said(environment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    environment("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "estarsync_runtime.otel", None)
    with (
        pytest.raises(ConfigurationError, match=r"install estarsync-runtime\[otel\]"),
        tracing("toy", load(ServiceSettings), FakeClock()),
    ):
        pass


def test_off_the_library_is_not_even_imported() -> None:
    code = """
import sys
import estarsync_runtime.lifecycle, extractor.app, extractor.webhooks.serve, loader.app, transformer.app
sys.exit(any(name.startswith("opentelemetry") for name in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_off_a_record_has_no_header_more(extraction: Any) -> None:
    profile = load_profile(profile_path().read_text("utf-8"), "test")
    shop = ShopSandbox(generate(5, 1, ZoneInfo("Europe/London")), FakeClock(NOW))
    found = extraction(shop, profile, FakeClock(NOW)).run()
    names = {name for record in found.kafka.records for name, _ in record.headers}
    assert "ce_sequence" in names
    assert "traceparent" not in names
    with OFF.span("anything") as span:
        assert (span.traceparent, span.header) == (None, [])


# On


def test_a_span_says_when_it_was_and_to_whom_it_belongs(recorder: Recorder) -> None:
    with recorder.tracing.span("first", {"a": 1}, role=Role.PRODUCER) as first:
        recorder.clock.advance(2)
        first.happened("half")
        recorder.clock.advance(1)
    second = recorder.tracing.begin("second", parent=first.traceparent, links=[PAGE, b"nonsense"])
    second.link(OTHER_PAGE)
    second.link(b"\xff")
    second.end("it fell")
    one, other = recorder.spans()
    assert one.start_time is not None
    assert one.end_time is not None
    assert datetime.fromtimestamp(one.start_time / 1e9, UTC) == NOW
    assert one.end_time - one.start_time == 3_000_000_000
    assert one.events[0].timestamp - one.start_time == 2_000_000_000
    assert (parent(one), facts(one)) == (None, {"a": 1})
    assert parent(other) == own(one)
    assert [f"{link.context.trace_id:032x}" for link in other.links] == [
        PAGE[3:35].decode(),
        OTHER_PAGE[3:35].decode(),
    ]
    assert (other.status.status_code, other.status.description) == (StatusCode.ERROR, "it fell")
    assert one.resource.attributes["service.name"] == "toy"
    assert one.resource.attributes["service.instance.id"] == "toy-0"


def test_an_exception_is_a_failure_without_foreign_words(recorder: Recorder) -> None:
    with pytest.raises(RetryLater), recorder.tracing.span("ours"):
        raise RetryLater("the shop answers 503")
    with pytest.raises(ValueError, match="jane"), recorder.tracing.span("foreign"):
        raise ValueError("jane@people.example")
    assert [span.status.description for span in recorder.spans()] == ["the shop answers 503", "ValueError"]
    assert not [event for span in recorder.spans() for event in span.events]


def test_the_environment_names_the_service_and_what_is_kept(environment: Any, recorder: Recorder) -> None:
    environment("OTEL_SERVICE_NAME", "acme-loader")
    environment("OTEL_TRACES_SAMPLER", "always_off")
    exporter = InMemorySpanExporter()
    made = OtelTracing("loader", "loader-0", recorder.clock, SimpleSpanProcessor(exporter))
    span = made.begin("left out")
    span.end()
    assert span.traceparent is not None
    assert int(span.traceparent[-2:], 16) & 1 == 0  # not kept, and those after it are not to keep it either
    assert not exporter.get_finished_spans()
    assert made._provider.resource.attributes["service.name"] == "acme-loader"
    made.close()


def test_log_lines_of_a_span_carry_its_ids(recorder: Recorder) -> None:
    with recorder.tracing.span("logged") as span:
        inside = dict(structlog.contextvars.get_contextvars())
    (told,) = recorder.spans()
    assert (int(inside["trace_id"], 16), int(inside["span_id"], 16)) == own(told)
    assert span.traceparent == traceparent(told)
    assert "trace_id" not in structlog.contextvars.get_contextvars()


def test_every_event_of_a_page_carries_the_span_that_published_it(
    extraction: Any, recorder: Recorder
) -> None:
    profile = load_profile(profile_path().read_text("utf-8"), "test")
    shop = ShopSandbox(generate(25, 1, ZoneInfo("Europe/London")), FakeClock(NOW))
    found = extraction(shop, profile, FakeClock(NOW), recorder.tracing).run()
    for entity in Entity:
        headers = [each.headers for each in found.kafka.records if each.topic == raw_topic(entity)]
        carried = {traceparent_of(each) for each in headers}
        published = [
            span
            for span in recorder.spans(f"publish {entity}")
            if facts(span)["messaging.batch.message_count"]
        ]
        assert carried == {traceparent(span) for span in published}
        assert len(headers) == sum(facts(span)["messaging.batch.message_count"] for span in published)
        fetched = {own(span) for span in recorder.spans(f"fetch {entity}")}
        assert {parent(span) for span in published} <= fetched
    told = str([(span.name, facts(span), span.status.description) for span in recorder.spans()])
    assert "estarsync.records" in told
    assert "@" not in told


# The transformer


def raw(*, context: bytes | None = PAGE, value: bytes = VALUE, again: Again | None = None) -> RawEvent:
    headers: RawHeaders = EventHeaders(
        Entity.PRODUCTS, Version(41, 0), Lane.LIVE, "estar", NOW, typed=False
    ).encode()
    if context is not None:
        headers.append(("traceparent", context))
    return RawEvent("estar.products.v1", 3, 42, b"S", value, headers, again)


def test_a_payload_goes_on_in_the_trace_of_its_page(recorder: Recorder) -> None:
    traced = TracedHandler(HANDLER, recorder.tracing)
    with traced.transaction():
        outputs = [traced.handle(each) for each in (raw(), raw(context=OTHER_PAGE), raw())]
    plain = HANDLER.handle(raw())
    assert [each.value for each in outputs] == [plain.value] * 3  # what is written does not depend on it
    assert [each.headers[:-1] for each in outputs] == [plain.headers] * 3
    whole, *parts = sorted(recorder.spans(), key=lambda span: span.name != "transaction")
    assert [facts(part)["messaging.batch.message_count"] for part in parts] == [2, 1]
    assert [f"{trace_id(part):032x}".encode() for part in parts] == [PAGE[3:35], OTHER_PAGE[3:35]]
    first, second = map(traceparent, parts)
    assert [traceparent_of(each.headers) for each in outputs] == [first, second, first]
    assert [link.context.trace_id for link in whole.links] == [trace_id(part) for part in parts]
    linked = [part.links[0].context for part in parts]
    assert [(each.trace_id, each.span_id) for each in linked] == [own(whole)] * 2
    assert facts(whole)["messaging.batch.message_count"] == 3


def test_what_has_no_context_or_an_old_one_belongs_to_the_transaction(recorder: Recorder) -> None:
    traced = TracedHandler(HANDLER, recorder.tracing)
    with traced.transaction():
        traced.handle(raw(context=None))
        traced.handle(raw(again=Again(1234)))
    part, whole = recorder.spans()
    assert facts(part)["messaging.batch.message_count"] == 2
    assert parent(part) == own(whole)


def test_a_dead_letter_has_one_context_and_a_rollback_is_shown(recorder: Recorder) -> None:
    traced = TracedHandler(HANDLER, recorder.tracing)
    outputs = []

    def fail() -> None:
        with traced.transaction():
            outputs.append(traced.handle(raw(value=b"<html>")))
            raise RetryLater("Kafka rolled it back")

    with pytest.raises(RetryLater):
        fail()
    (output,) = outputs
    assert output.outcome == DEAD_LETTER
    part, whole = recorder.spans()
    assert [value for name, value in output.headers if name == "traceparent"] == [traceparent(part)]
    assert part.status.description == "rolled back"
    assert whole.status.description == "Kafka rolled it back"
