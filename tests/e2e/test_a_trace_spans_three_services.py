"""With a collector named, one trace goes from the shop's page to Dotdigital's report; the logs name it, too."""

import gzip
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from typing_extensions import override

from estarsync_core.entities import Entity
from estarsync_core.headers import traceparent_of
from estarsync_core.topics import raw_topic, typed_topic
from estarsync_runtime.kafka.messages import headers_of
from estarsync_runtime.kafka.restore import read_topics

pytestmark = pytest.mark.e2e
SERVICES = ("extractor", "transformer", "loader")


class Collector:
    """What a collector does first: takes spans by OTLP over HTTP."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces"
                assert self.headers["Content-Type"] == "application/x-protobuf"
                zipped = self.headers.get("Content-Encoding") == "gzip"
                collector.bodies.append(gzip.decompress(body) if zipped else body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            @override
            def log_message(self, format: str, *args: Any) -> None:
                """A test has its own words."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def spans(self) -> list[tuple[str, Any]]:
        """Every span, with the name of its service."""
        found = []
        for body in list(self.bodies):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {each.key: each.value.string_value for each in resource.resource.attributes}
                for scope in resource.scope_spans:
                    found += [(names["service.name"], span) for span in scope.spans]
        return found

    def traces(self) -> dict[bytes, list[tuple[str, Any]]]:
        by_trace = defaultdict(list)
        for service, span in self.spans():
            by_trace[span.trace_id].append((service, span))
        return by_trace


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.close()


def whole(spans: list[tuple[str, Any]], entity: str) -> bool:
    """Whether a trace of an entity goes through all services, each span the child of one before it."""
    names = {f"fetch {entity}", f"publish {entity}", f"transform {entity}", f"deliver {entity}"}
    if {service for service, _ in spans} != set(SERVICES) or not names <= {span.name for _, span in spans}:
        return False
    ids = {span.span_id for _, span in spans}
    return sum(span.parent_span_id not in ids for _, span in spans) == 1


def test_one_trace_from_the_shops_page_to_dotdigitals_report(installation, collector):
    telling = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "300"}
    installation.start(*SERVICES, **telling)

    def followed() -> bool:
        traces = list(collector.traces().values())
        return all(any(whole(spans, entity) for spans in traces) for entity in Entity)

    installation.wait_until("a whole trace of each entity", followed)
    wanted = {entity: len(installation.truth()[entity]["expected"]) for entity in Entity}
    installation.wait_until("the first load", lambda: installation.counts() == wanted)
    settings = installation.kafka
    names = [name(entity) for entity in Entity for name in (raw_topic, typed_topic)]
    installation.stop(*SERVICES)  # what is left is sent at the end
    known = {(span.trace_id.hex(), span.span_id.hex()) for _, span in collector.spans()}
    for message in read_topics(settings, [settings.topic(name) for name in names]):
        context = (traceparent_of(headers_of(message)) or b"").decode()
        _, trace, span, flags = context.split("-")
        assert (trace, span) in known, "a record whose span was never told of"
        assert int(flags, 16) & 1, "a record whose trace was left out"

    told = str([(span.name, span.attributes, span.events, span.status) for _, span in collector.spans()])
    assert "estarsync.records" in told
    assert "@" not in told, "an e-mail in a span"
    lines = [
        json.loads(line)
        for name in SERVICES
        for line in (installation._folder / f"{name}.log").read_text().splitlines()
        if line.startswith("{")
    ]
    (batch, *_) = (line for line in lines if line["event"] == "batch")
    assert (batch["trace_id"], batch["span_id"]) in known
