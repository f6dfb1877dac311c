"""Imports in traces: where a record's page went, from when its batch was ready to Dotdigital's report."""

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from estarsync_core.entities import Entity, Lane, Version
from estarsync_core.headers import EventHeaders
from estarsync_runtime.otel import OtelTracing
from loader import traced

PAGES = [f"00-{number:032x}-{number:016x}-01".encode() for number in range(1, 200)]


@pytest.fixture
def exporter(rig: Any) -> Iterator[InMemorySpanExporter]:
    found = InMemorySpanExporter()
    rig.tracing = OtelTracing("loader", "here", rig.clock, SimpleSpanProcessor(found))
    rig.kill()  # the next one traces
    yield found
    rig.tracing.close()


def headers(rig: Any, sequence: int, context: bytes | None, lane: Lane = Lane.BULK) -> Any:
    own = EventHeaders(Entity.PRODUCTS, Version(sequence, 1), lane, "test", rig.clock.now(), typed=True)
    return own.encode() + ([] if context is None else [("traceparent", context)])


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


def facts(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def identity(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def test_one_page_is_followed_into_its_import(rig: Any, exporter: InMemorySpanExporter) -> None:
    rig.product("A", headers=headers(rig, 1, PAGES[0]))
    rig.product("B", headers=headers(rig, 2, PAGES[0]))
    rig.run(pace=0.1)
    (delivered,), (imported,) = named(exporter, "deliver products"), named(exporter, "import products")
    assert identity(delivered)[0] == identity(imported)[0] == 1
    assert delivered.parent is not None
    assert delivered.parent.span_id == 1
    assert imported.parent is not None
    assert imported.parent.span_id == identity(delivered)[1]
    assert facts(delivered)["estarsync.records"] == facts(imported)["estarsync.records"] == 2
    (accepted,) = (row for row in rig.imports() if row["state"] == "accepted")
    assert facts(imported)["dotdigital.import_id"] == accepted["import_id"]
    assert [event.name for event in imported.events] == ["accepted"]
    assert seconds(delivered) >= seconds(imported) > 0


def test_an_import_of_many_pages_has_a_trace_of_its_own_and_a_part_in_theirs(
    rig: Any, exporter: InMemorySpanExporter
) -> None:
    for number, page in enumerate(PAGES, 1):
        rig.product(f"S{number}", headers=headers(rig, number, page))
    rig.product("none", headers=headers(rig, 1000, None))
    rig.run()
    parts, (whole,) = named(exporter, "deliver products"), named(exporter, "import products")
    assert len(parts) == traced._MOST
    assert {identity(part)[0] for part in parts} == set(range(1, traced._MOST + 1))
    assert whole.parent is None
    assert {(link.context.trace_id, link.context.span_id) for link in whole.links} == set(
        map(identity, parts)
    )
    assert facts(whole)["estarsync.records"] == len(PAGES) + 1


def test_an_import_that_fails_is_one_span_until_its_report(rig: Any, exporter: InMemorySpanExporter) -> None:
    failed = iter([(429, None)])
    rig.answer(lambda request: next(failed, None) if request.url.path == "/insightData/v3/import" else None)
    rig.product("A", headers=headers(rig, 1, PAGES[0]))
    rig.run(300)
    (imported,) = named(exporter, "import products")
    assert [event.name for event in imported.events] == ["sent again", "accepted"]


def test_an_import_that_is_open_when_the_loader_ends_says_so(
    rig: Any, exporter: InMemorySpanExporter
) -> None:
    rig.options(import_seconds=30.0)
    rig.product("A", headers=headers(rig, 1, PAGES[0]))
    rig.run(until=lambda: any(row["state"] == "accepted" for row in rig.imports()))
    rig.kill()
    rig.run(120)  # the next loader takes over what it does not know the trace of
    (imported,) = named(exporter, "import products")
    assert imported.status.description == "the loader has ended"


def test_a_removal_is_followed_too_and_log_lines_carry_the_ids(
    rig: Any, exporter: InMemorySpanExporter
) -> None:
    rig.product("A", headers=headers(rig, 1, PAGES[0]))
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        rig.run()
    (line,) = (line for line in lines if line["event"] == "batch")
    (delivered,) = named(exporter, "deliver products")
    assert (int(line["trace_id"], 16), int(line["span_id"], 16)) == identity(delivered)
    gone = [*headers(rig, 2, PAGES[1]), ("ce_reason", b"removed")]
    rig.publish(Entity.PRODUCTS, "A", None, headers=gone)
    rig.run()
    (removed,) = named(exporter, "delete products")
    assert identity(removed)[0] == 2


def test_no_attribute_names_a_shopper(rig: Any, exporter: InMemorySpanExporter) -> None:
    rig.contact("jane@people.example")
    rig.order("1", "jane@people.example")
    rig.run()
    rig.tombstone(Entity.ORDERS, "1")
    rig.run()
    spans = exporter.get_finished_spans()
    assert {"import contacts", "import orders", "delete orders"} <= {span.name for span in spans}
    assert "people" not in str([(span.name, facts(span), span.events) for span in spans])
