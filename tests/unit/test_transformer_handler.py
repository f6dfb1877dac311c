import json
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from estarsync_core.entities import Entity, Lane, Reason, Version
from estarsync_core.headers import EventHeaders, RawHeaders
from estarsync_core.mapping import MAPPING_REVISION
from estarsync_core.mapping.mapper import Mapper
from estarsync_core.profile import load_profile
from estarsync_runtime.avro import AvroCodec
from estarsync_runtime.metrics import Metrics
from transformer.handler import DEAD_LETTER, PAYLOAD, TOMBSTONE, Handler, RawEvent
from transformer.tally import Tally

PROFILE = """
websites:
  "1": {currency: NZD, product_url: "https://shop.example/p/{id}", image_base: "https://shop.example"}
"""
CODEC = AvroCodec()
HANDLER = Handler(Mapper(load_profile(PROFILE, "test")), CODEC, "shop.", "pod-0")
TIME = datetime(2024, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
ITEM = {
    "product": {"ID": "5", "Title": "Tee", "Price": "9.95", "SalePrice": "?"},
    "item": {"Barcode": "SKU-1"},
}
VALUE = json.dumps(ITEM).encode()


def headers(*, revision: int = 0, typed: bool = False, reason: Reason | None = None) -> RawHeaders:
    version = Version(41, revision)
    return EventHeaders(
        Entity.PRODUCTS, version, Lane.LIVE, "estar", TIME, typed=typed, reason=reason
    ).encode()


def event(
    value: bytes | None = VALUE, key: bytes | None = b"SKU-1", own: RawHeaders | None = None
) -> RawEvent:
    return RawEvent("shop.estar.products.v1", 3, 42, key, value, headers() if own is None else own)


def test_a_raw_event_becomes_a_payload_with_the_same_key_sequence_lane_and_time() -> None:
    output = HANDLER.handle(event())
    assert (output.topic, output.key, output.outcome) == ("shop.dotdigital.products.v1", b"SKU-1", PAYLOAD)
    assert output.headers == headers(revision=MAPPING_REVISION, typed=True)
    assert output.dropped == (("specialprice", "not_a_number"),)
    assert CODEC.decode(Entity.PRODUCTS, output.value or b"")["sku"] == "SKU-1"


@pytest.mark.parametrize("reason", Reason)
def test_a_tombstone_keeps_its_reason(reason: Reason) -> None:
    output = HANDLER.handle(event(None, own=headers(reason=reason)))
    assert (output.topic, output.value, output.outcome) == ("shop.dotdigital.products.v1", None, TOMBSTONE)
    assert output.headers == headers(revision=MAPPING_REVISION, typed=True, reason=reason)


def without(name: str) -> RawHeaders:
    return [(other, value) for other, value in headers() if other != name]


@pytest.mark.parametrize(
    ("bad", "field", "code"),
    [
        (event(b"<html>"), b"value", b"not_json"),
        (event(key=b"SKU-2"), b"sku", b"key_mismatch"),
        (event(key=None), b"key", b"missing"),
        (event(key=b""), b"key", b"missing"),
        (event(key=b"\xff"), b"key", b"not_utf8"),
        (event(None), b"headers", b"no_reason"),
        (event(None, key=None, own=headers(reason=Reason.ERASED)), b"key", b"missing"),
        (event(own=without("ce_sequence")), b"headers", b"unreadable"),
        (event(own=without("ce_source")), b"headers", b"unreadable"),
        (event(own=without("ce_time")), b"headers", b"unreadable"),
        (event(own=[*without("ce_time"), ("ce_time", b"\xff")]), b"headers", b"unreadable"),
        (event(own=[*without("ce_time"), ("ce_time", b"2024-01-02T03:04:05")]), b"headers", b"unreadable"),
        (event(own=[]), b"headers", b"unreadable"),
    ],
)
def test_whatever_is_wrong_becomes_a_dead_letter_with_the_original_bytes(
    bad: RawEvent, field: bytes, code: bytes
) -> None:
    output = HANDLER.handle(bad)
    assert (output.topic, output.outcome) == ("shop.estar.products.v1.dlq", DEAD_LETTER)
    assert (output.key, output.value) == (bad.key, bad.value)
    found = dict(output.headers)
    assert (found["estarsync.field"], found["estarsync.code"]) == (field, code)
    assert found["__connect.errors.offset"] == b"42"
    assert output.code.encode() == code


def test_a_batch_is_counted_by_outcome_reason_and_field() -> None:
    registry = CollectorRegistry()
    tally = Tally()
    for raw in (event(), event(), event(b"<html>")):
        tally.add(raw.topic, HANDLER.handle(raw))
    tally.count(Metrics(registry))
    for name, labels, count in (
        ("estarsync_transformer_records_total", {"entity": "products", "outcome": "payload"}, 2),
        ("estarsync_transformer_records_total", {"entity": "products", "outcome": "dead_letter"}, 1),
        ("estarsync_dead_letters_total", {"topic": "shop.estar.products.v1", "code": "not_json"}, 1),
        (
            "estarsync_transformer_dropped_fields_total",
            {"entity": "products", "field": "specialprice", "code": "not_a_number"},
            2,
        ),
    ):
        assert registry.get_sample_value(name, labels) == count
