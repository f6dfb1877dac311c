"""The schema registry's two calls and Confluent's wire format, against a small registry in this process."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typing_extensions import override

from estarsync_core.entities import Entity
from estarsync_core.errors import ConfigurationError, InvalidRecord, RetryLater
from estarsync_runtime.avro import AvroCodec
from estarsync_runtime.registry import SchemaRegistry

TOPICS = {entity: f"dotdigital.{entity}.v1" for entity in Entity}
PRODUCT: dict[str, Any] = dict.fromkeys(("id", "sku", "status", "name", "currency", "url"), "x") | {
    "price": 1.0,
    "specialprice": None,
    "image_path": None,
    "brand": None,
}


class FakeRegistry(ThreadingHTTPServer):
    """Gives numbers to schemas, as any registry does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.schemas: list[str] = []
        self.subjects: dict[str, int] = {}
        self.calls: list[str] = []
        self.authorization: str | None = None
        self.status: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answers(BaseHTTPRequestHandler):
    server: FakeRegistry

    def do_POST(self) -> None:
        self.server.authorization = self.headers["Authorization"]
        text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["schema"]
        if text not in self.server.schemas:
            self.server.schemas.append(text)
        number = self.server.schemas.index(text) + 1
        self.server.subjects[self.path.split("/")[2]] = number
        self._answer({"id": number})

    def do_GET(self) -> None:
        number = int(self.path.rpartition("/")[2])
        if number > len(self.server.schemas):
            self._answer({"error_code": 40403, "message": "Schema not found"}, 404)
        else:
            self._answer({"schema": self.server.schemas[number - 1]})

    def _answer(self, body: dict[str, Any], status: int = 200) -> None:
        self.server.calls.append(f"{self.command} {self.path}")
        self.send_response(self.server.status or status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    @override
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_what_one_process_registers_and_writes_another_reads(registry: FakeRegistry) -> None:
    writer, reader = AvroCodec(SchemaRegistry(registry.url)), AvroCodec(SchemaRegistry(registry.url))
    writer.register(TOPICS)
    assert set(registry.subjects) == {f"{topic}-value" for topic in TOPICS.values()}
    data = writer.encode(Entity.PRODUCTS, PRODUCT)
    number = registry.subjects["dotdigital.products.v1-value"]
    assert data[:5] == b"\0" + number.to_bytes(4, "big")
    assert data[5:] == AvroCodec().encode(Entity.PRODUCTS, PRODUCT)[10:]
    registry.calls.clear()
    for _ in range(3):
        assert reader.decode(Entity.PRODUCTS, data) == PRODUCT
    assert registry.calls == [f"GET /schemas/ids/{number}"]


def test_both_framings_are_read_side_by_side(registry: FakeRegistry) -> None:
    codec = AvroCodec(SchemaRegistry(registry.url))
    before = codec.encode(Entity.PRODUCTS, PRODUCT)
    codec.register(TOPICS)
    after = codec.encode(Entity.PRODUCTS, PRODUCT)
    assert (before[:2], after[:1]) == (b"\xc3\x01", b"\0")
    assert codec.decode(Entity.PRODUCTS, before) == codec.decode(Entity.PRODUCTS, after) == PRODUCT


def test_a_schema_of_a_newer_transformer_is_resolved(registry: FakeRegistry) -> None:
    codec = AvroCodec(SchemaRegistry(registry.url))
    codec.register(TOPICS)
    number = registry.subjects["dotdigital.products.v1-value"]
    newer = json.loads(registry.schemas[number - 1])
    newer["fields"].insert(0, {"name": "added", "type": "string", "default": ""})
    registry.schemas.append(json.dumps(newer))
    body = codec.encode(Entity.PRODUCTS, PRODUCT)[5:]
    data = b"\0" + len(registry.schemas).to_bytes(4, "big") + b"\x02y" + body
    assert codec.decode(Entity.PRODUCTS, data) == PRODUCT


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"\0\0\0", "not_avro"), (b"\0\0\0\0\x63x", "unknown_schema"), (b"\0\0\0\0\x01", "other_schema")],
)
def test_what_the_registry_does_not_know_or_is_anothers(
    registry: FakeRegistry, data: bytes, code: str
) -> None:
    codec = AvroCodec(SchemaRegistry(registry.url))
    codec.register({Entity.CONTACTS: "c", Entity.PRODUCTS: "p"})
    with pytest.raises(InvalidRecord) as caught:
        codec.decode(Entity.PRODUCTS, data)
    assert (caught.value.field, caught.value.code) == ("value", code)


def test_without_a_registry_the_reason_is_plain() -> None:
    with pytest.raises(InvalidRecord, match="no_registry"):
        AvroCodec().decode(Entity.PRODUCTS, b"\0\0\0\0\1x")


@pytest.mark.parametrize(
    ("status", "kind"), [(503, RetryLater), (429, RetryLater), (409, ConfigurationError)]
)
def test_a_refusal_is_told_from_a_pause(registry: FakeRegistry, status: int, kind: type[Exception]) -> None:
    registry.status = status
    with pytest.raises(kind):
        AvroCodec(SchemaRegistry(registry.url)).register(TOPICS)


def test_every_subject_that_is_refused_is_named(registry: FakeRegistry) -> None:
    registry.status = 403
    with pytest.raises(ConfigurationError) as caught:
        AvroCodec(SchemaRegistry(registry.url)).register(TOPICS)
    assert len(caught.value.problems) == 3


def test_a_registry_that_refuses_to_show_a_schema_is_no_bad_record(registry: FakeRegistry) -> None:
    registry.status = 401
    with pytest.raises(ConfigurationError):
        AvroCodec(SchemaRegistry(registry.url)).decode(Entity.PRODUCTS, b"\0\0\0\0\1x")


def test_one_that_is_away_is_asked_later(registry: FakeRegistry) -> None:
    url = registry.url
    registry.server_close()
    with pytest.raises(RetryLater, match="does not answer"):
        SchemaRegistry(url, timeout=1).register("s", {})


def test_a_user_in_the_url_is_sent_and_shown_nowhere(registry: FakeRegistry) -> None:
    url = registry.url.replace("//", "//me:p%40ss@")
    SchemaRegistry(url).register("s", {})
    assert registry.authorization == "Basic bWU6cEBzcw=="
    registry.server_close()
    with pytest.raises(RetryLater) as caught:
        SchemaRegistry(url, timeout=1).register("s", {})
    assert "p%40ss" not in str(caught.value)


def test_no_other_scheme() -> None:
    with pytest.raises(ConfigurationError):
        SchemaRegistry("file:///etc/passwd")
